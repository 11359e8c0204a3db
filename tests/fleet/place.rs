//! Hosts for a fleet: each a network and a mount namespace of its own, with folders of its own for
//! programs and for state, entered by a script as by any runner. A small program stands in for
//! stillpoint there, and obeys the same command lines. Whatever a test does, nothing of it stays.

use crate::cli::lab::{Lab, Run, tool};
use jiff::{SignedDuration, Timestamp};
use std::cell::RefCell;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use stillpoint::client::{ClientToken, TokenPlan, TokenVault, TokenVaultSettings, encode};
use stillpoint::model::ObjectId;

/// What stands in for stillpoint: it notes how it was called, and tells its token to whoever asks.
const STAND_IN: &str = r#"#!/bin/sh
[ "$1" = --version ] && { echo stillpoint 0.1.0; exit 0; }
s=/mnt
echo "$*" >>$s/lines
tell() {
    printf '{"host":"h","version":"0.1.0","state":"%s","failure":%s,"problems":%s,' "$@"
    printf '"vault":{"name":"main","url":"/v","id":"00"},'
    printf '"plans":[{"plan":"daily","state":"good","next":null}],'
    printf '"last_snapshot":{"snapshot":"x","time":"2026-11-30T00:00:00Z","disk":"vda"}}\n'
}
refuse() { printf '{"error":{"kind":"usage","message":"%s","hint":"x"}}\n' "$1"; exit 2; }
case "$1 $2" in
"client status")
    if [ -e $s/failed ]; then
        tell failed '{"kind":"io","message":"no vault","hint":"mount it"}' '[]'; exit 3
    fi
    if [ -e $s/problem ]; then tell activated null '["vda is overdue"]'; exit 3; fi
    if [ -e $s/activated ]; then tell activated null '[]'; exit 0; fi
    tell installed null '[]'; exit 3 ;;
"client activate")
    if [ "$4" = - ]; then IFS= read -r token; else IFS= read -r token <"$4"; fi
    wants=$(cat $s/wants 2>/dev/null || echo TOKEN)
    if [ "$token" != "$wants" ]; then
        echo "a word aside: $token" >&2
        refuse "the token $token is for another vault"
    fi
    rm -f $s/failed; : >$s/activated; echo '{"state":"activated"}' ;;
*) refuse unrecognized ;;
esac
"#;

/// A host.
pub struct Host {
    /// Its folder.
    pub folder: PathBuf,
    /// What the program there keeps.
    pub state: PathBuf,
    stand_in: PathBuf,
}

impl Host {
    /// The program is there already.
    pub fn install(&self) {
        fs::copy(&self.stand_in, self.folder.join("sbin/stillpoint")).unwrap();
    }

    /// It is entered in a way of its own; nothing: as the others.
    pub fn goes(&self, way: &str) {
        write_script(&self.folder.join("way"), way);
    }
}

/// A process, which ends with what holds it.
pub struct Held(pub Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An operator's machine, and its hosts.
pub struct Fleet {
    pub lab: Lab,
    /// The token that activates.
    pub secret: String,
    held: RefCell<Vec<Held>>,
    names: RefCell<Vec<String>>,
}

/// A token, as `client token` writes it at that time.
fn made(issued: Timestamp) -> String {
    let vault = TokenVault {
        name: "main".into(),
        id: ObjectId::generate(),
        settings: TokenVaultSettings {
            url: "/v".into(),
            ..TokenVaultSettings::default()
        },
    };
    let valid = SignedDuration::from_hours(48);
    let mut token = ClientToken::new(vault, issued, valid).unwrap();
    token.plan = Some(TokenPlan {
        name: "daily".into(),
        words: Vec::new(),
    });
    encode(&token).unwrap().trim_end().to_owned()
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

impl Fleet {
    pub fn new(test: &str) -> Option<Self> {
        let lab = Lab::new(test)?;
        let fleet = Self {
            lab,
            secret: made(Timestamp::now()),
            held: RefCell::default(),
            names: RefCell::default(),
        };
        fs::create_dir(fleet.path("hosts")).unwrap();
        // As the static tarball is: something else has the program's name, too.
        fs::create_dir_all(fleet.path("stage/completions")).unwrap();
        fs::write(
            fleet.path("stage/completions/stillpoint"),
            "echo stillpoint no\n",
        )
        .unwrap();
        let stand_in = STAND_IN.replace("TOKEN", &fleet.secret);
        fs::write(fleet.path("stage/stillpoint"), stand_in).unwrap();
        tool("chmod", &["0755", &fleet.lab.at("stage/stillpoint")]);
        let package = fleet.lab.at("package.tar.gz");
        tool(
            "tar",
            &["-czf", &package, "-C", &fleet.lab.at("."), "stage"],
        );
        fs::write(fleet.path("token"), format!("{}\n", fleet.secret)).unwrap();
        tool("chmod", &["0600", &fleet.lab.at("token")]);
        let root = fleet.lab.dir.path().to_str().unwrap().to_owned();
        fleet.script(
            "enter-in",
            &format!(
                "read -r pid <\"{root}/hosts/$1/pid\" || exit 255\n\
                 exec nsenter --target \"$pid\" --net --mount sh -c \"$2\""
            ),
        );
        fleet.script(
            "enter",
            &format!(
                "echo \"$*\" >>{root}/argued\n[ -x \"{root}/hosts/$1/way\" ] && \
                 exec \"{root}/hosts/$1/way\" \"$@\"\nexec {root}/enter-in \"$@\""
            ),
        );
        Some(fleet)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }

    /// A script in the folder of the test.
    pub fn script(&self, name: &str, text: &str) -> String {
        write_script(&self.path(name), text);
        self.lab.at(name)
    }

    /// A host more, in namespaces of its own.
    pub fn host(&self, name: &str) -> Host {
        let folder = self.path("hosts").join(name);
        for part in ["sbin", "state"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let script = "mount --bind \"$0/sbin\" /usr/local/sbin && mount --bind \"$0/state\" /mnt \
                      && { [ ! -e \"$0/full\" ] || mount -o remount,bind,ro /usr/local/sbin; } \
                      && echo ready && exec sleep 1000";
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
            ])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        fs::write(folder.join("pid"), format!("{}\n", child.id())).unwrap();
        self.held.borrow_mut().push(Held(child));
        self.names.borrow_mut().push(name.to_owned());
        Host {
            state: folder.join("state"),
            stand_in: self.path("stage/stillpoint"),
            folder,
        }
    }

    /// One where no program can be put.
    pub fn full_host(&self, name: &str) -> Host {
        let folder = self.path("hosts").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("full"), "").unwrap();
        self.host(name)
    }

    /// Keeps a process until the end.
    pub fn hold(&self, child: Child) {
        self.held.borrow_mut().push(Held(child));
    }

    /// A list with these rows.
    pub fn list_of(&self, rows: &str) -> String {
        let file = self.path("hosts.csv");
        let text = format!("instance,name,address,network type,plan,vault\n{rows}");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.lab.at("hosts.csv")
    }

    /// A list with all hosts.
    pub fn list(&self) -> String {
        let names = self.names.borrow();
        let rows: String = names
            .iter()
            .map(|name| format!("{name},,{name},,,\n"))
            .collect();
        self.list_of(&rows)
    }

    pub fn package(&self) -> String {
        self.lab.at("package.tar.gz")
    }

    pub fn token(&self) -> String {
        self.lab.at("token")
    }

    pub fn runner(&self) -> String {
        format!("exec:{} {{instance}} {{command}}", self.lab.at("enter"))
    }

    /// Another token, which was made at that time, lies in the file of tokens.
    pub fn has_token_of(&self, issued: Timestamp) {
        fs::write(self.path("token"), format!("{}\n", made(issued))).unwrap();
    }

    /// What `fleet apply` says.
    pub fn apply(&self, list: &str, more: &[&str]) -> Run {
        let runner = self.runner();
        let args = ["fleet", "apply", list, "--runner", &runner];
        self.lab.run(&[&args[..], more].concat())
    }

    /// What `fleet status` says.
    pub fn status(&self, list: &str, more: &[&str]) -> Run {
        let runner = self.runner();
        let args = ["fleet", "status", list, "--runner", &runner];
        self.lab.run(&[&args[..], more].concat())
    }

    /// How the program was called on all hosts, and what stood on command lines of the runner.
    pub fn lines(&self) -> String {
        let of_host = |name: &String| {
            fs::read_to_string(self.path("hosts").join(name).join("state/lines"))
                .unwrap_or_default()
        };
        let names = self.names.borrow();
        names.iter().map(of_host).collect()
    }

    /// What stood on the command lines of the runner.
    pub fn argued(&self) -> String {
        fs::read_to_string(self.path("argued")).unwrap_or_default()
    }
}
