//! What the shell of an instance is told to run. Each is one text without line breaks, that any
//! shell takes for one call of `sh`; between two lines of ours stands what it answers, so that
//! greetings, noise and lost exit codes do no harm. No text of a list is in it, and no secret.

use super::package::{FleetPackage, PackageKind};
use crate::error::{Error, ErrorKind, Result};
use shlex::Quoter;
use std::fmt::Write;

/// Stands before an answer.
pub(super) const BEGIN: &str = "stillpoint-fleet: begin";
/// Stands behind it, before the exit code.
pub(super) const END: &str = "stillpoint-fleet: end ";
/// What is answered where nothing is installed.
pub(super) const ABSENT: &str = "stillpoint-fleet: absent";
/// Where programs are, also for shells that are told of less.
const PATH: &str = "export LC_ALL=C PATH=\"$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:\
                    /sbin:/bin\"";
/// How it is put in place, from the file `$f`: under a name of its own, tried, then at once.
const PUT: &str = "mkdir -p /usr/local/sbin && n=$(mktemp /usr/local/sbin/.stillpoint.XXXXXX) && \
                   { cp \"$f\" \"$n\" && chmod 0755 \"$n\" && v=$(\"$n\" --version) && \
                   case \"$v\" in \"stillpoint \"*) ;; *) echo 'that is no stillpoint'; \
                   false ;; esac && mv -f \"$n\" /usr/local/sbin/stillpoint || \
                   { rm -f \"$n\"; false; }; }";

/// Whether the program `$f` is one for this machine: an emulator might run another. What is no
/// program is left to be tried.
const FITS: &str = "m=$(uname -m); case \"$(od -An -v -tx1 -N4 \"$f\" | tr -d ' ')\" in 7f454c46) \
                    p=$(od -An -v -tx1 -j18 -N2 \"$f\" | tr -d ' '); case \"$p\" in \
                    3e00) p=x86_64 ;; b700) p=aarch64 ;; esac; \
                    test \"$p\" = \"$m\" || { echo \"it is a program for $p, and this is $m\"; \
                    false; } ;; esac";
/// The same of a package, by the words of what installs it.
const DEB_FITS: &str = "m=$(dpkg --print-architecture) && \
                        p=$(dpkg-deb --field \"$f\" Architecture) && \
                        { test \"$p\" = all || test \"$p\" = \"$m\" || \
                        { echo \"it is a package for $p, and this is $m\"; false; }; }";
const RPM_FITS: &str = "m=$(uname -m); \
                        p=$(rpm --query --package --queryformat '%{ARCH}' \"$f\") && \
                        { test \"$p\" = noarch || test \"$p\" = \"$m\" || \
                        { echo \"it is a package for $p, and this is $m\"; false; }; }";

/// How instances are entered.
#[derive(Clone, Debug, Default)]
pub struct EnterOptions {
    /// Whether who logs in becomes root by `sudo -n`.
    pub sudo: bool,
    /// Where on instances the token lies, if it is not sent.
    pub remote_token_file: Option<String>,
}

impl EnterOptions {
    /// What it has installed, and how that stands.
    pub(super) fn status(&self) -> Result<String> {
        let script = format!(
            "if command -v stillpoint >/dev/null 2>&1; then stillpoint client status --json; \
             else echo '{ABSENT}'; fi"
        );
        self.entered(&script)
    }

    /// Installs what comes by its input.
    pub(super) fn install(&self, package: &FleetPackage) -> Result<String> {
        let put = match package.kind {
            PackageKind::Deb => format!(
                "f=\"$d/stillpoint.deb\" && mv \"$d/package\" \"$f\" && {DEB_FITS} && \
                 DEBIAN_FRONTEND=noninteractive dpkg --install \"$f\""
            ),
            PackageKind::Rpm => {
                format!("f=\"$d/package\" && {RPM_FITS} && rpm --upgrade --replacepkgs \"$f\"")
            }
            PackageKind::Tarball => format!(
                "mkdir \"$d/all\" && tar -xzf \"$d/package\" -C \"$d/all\" && \
                 f=$(find \"$d/all\" -mindepth 2 -maxdepth 2 -type f -name stillpoint -perm \
                 -100) && test -f \"$f\" && {FITS} && {PUT}"
            ),
            PackageKind::Program => format!("f=\"$d/package\" && {FITS} && {PUT}"),
        };
        let mut script = String::from(
            "umask 077; d=$(mktemp -d) || exit 90; trap 'rm -rf \"$d\"' EXIT; \
             trap 'exit 143' HUP INT TERM; ",
        );
        // Writing to a string cannot fail.
        let _ = write!(
            script,
            "head -c {} >\"$d/package\" || exit 91; s=$(sha256sum <\"$d/package\") || exit 92; \
             test \"${{s%% *}}\" = {} || {{ echo 'what came has another SHA-256'; exit 93; }}; \
             umask 022; ({put}) >\"$d/said\" 2>&1 </dev/null; c=$?; tail -c 2000 \"$d/said\"; \
             exit $c",
            package.bytes.0, package.sha256
        );
        self.entered(&script)
    }

    /// Activates it with the token that comes by its input, or that lies there.
    pub(super) fn activate(&self) -> Result<String> {
        let file = match &self.remote_token_file {
            None => "-".into(),
            Some(path) => quoted(path)?,
        };
        self.entered(&format!(
            "stillpoint client activate --token-file {file} --json"
        ))
    }

    /// The script between our lines, as one call.
    fn entered(&self, script: &str) -> Result<String> {
        let script = format!(
            "{PATH}; echo; echo '{BEGIN}'; ({script}); c=$?; echo; echo \"{END}$c\"; exit $c"
        );
        let sudo = if self.sudo { "sudo -n " } else { "" };
        Ok(format!("{sudo}sh -c {}", quoted(&script)?))
    }
}

/// One word of a shell.
fn quoted(text: &str) -> Result<String> {
    let word = Quoter::new().quote(text).map_err(|error| {
        Error::new(ErrorKind::Usage, "what is no text for a shell").with_source(error)
    })?;
    Ok(word.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bytes;
    use std::process::Command;

    fn all() -> Vec<String> {
        let enter = EnterOptions {
            sudo: false,
            remote_token_file: Some("/root/a 'b' $(c)".into()),
        };
        let mut all = vec![enter.status().unwrap(), enter.activate().unwrap()];
        for kind in [
            PackageKind::Deb,
            PackageKind::Rpm,
            PackageKind::Tarball,
            PackageKind::Program,
        ] {
            let package = FleetPackage {
                path: "/x".into(),
                kind,
                bytes: Bytes(7),
                sha256: "0".repeat(64),
            };
            all.push(enter.install(&package).unwrap());
        }
        all
    }

    #[test]
    fn each_is_one_line_and_what_a_shell_takes_for_one_call() {
        for command in all() {
            assert!(!command.contains('\n'), "{command}");
            let words = shlex::split(&command).unwrap();
            assert_eq!(
                (&*words[0], &*words[1], words.len()),
                ("sh", "-c", 3),
                "{command}"
            );
            let checked = Command::new("sh").args(["-n", "-c", &words[2]]).status();
            assert!(checked.unwrap().success(), "{command}");
        }
        let sudo = EnterOptions {
            sudo: true,
            ..EnterOptions::default()
        };
        let words = shlex::split(&sudo.activate().unwrap()).unwrap();
        assert_eq!(words[..4], ["sudo", "-n", "sh", "-c"]);
        assert!(words[4].contains("--token-file - --json"));
    }

    #[test]
    fn a_path_is_one_word_on_the_other_side() {
        let command = &all()[1];
        let inner = &shlex::split(command).unwrap()[2];
        let words = shlex::split(inner).unwrap();
        assert!(
            words.iter().any(|word| word == "/root/a 'b' $(c)"),
            "{inner}"
        );
        let bad = EnterOptions {
            sudo: false,
            remote_token_file: Some("a\0b".into()),
        };
        assert!(bad.activate().is_err());
    }

    /// Runs what an instance is told, with these words for commands of its, and this package.
    fn installs(kind: PackageKind, bytes: &[u8], commands: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("package");
        std::fs::write(&path, bytes).unwrap();
        let sum = ring::digest::digest(&ring::digest::SHA256, bytes);
        let package = FleetPackage {
            path: path.clone(),
            kind,
            bytes: Bytes(bytes.len() as u64),
            sha256: hex::encode(sum),
        };
        let command = EnterOptions::default().install(&package).unwrap();
        let words = shlex::split(&command).unwrap();
        // Where it would be put is nothing that this test may touch.
        let script = words[2].replace("/usr/local/sbin", dir.path().to_str().unwrap());
        for (name, text) in commands {
            let place = dir.path().join(name);
            std::fs::write(&place, format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&place, mode).unwrap();
        }
        let path_of = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.path().display());
        let ran = Command::new("sh")
            .args(["-c", &script])
            .env("PATH", path_of)
            .stdin(std::fs::File::open(&path).unwrap())
            .output()
            .unwrap();
        assert!(!dir.path().join("stillpoint").exists());
        String::from_utf8(ran.stdout).unwrap()
    }

    /// An emulator might run it, and dpkg install it where that machine was added: it is refused in
    /// words, before it is run or put anywhere.
    #[test]
    fn what_is_for_another_machine_is_refused_in_words() {
        let mut arm = [&b"\x7fELF\x02\x01\x01"[..], &[0; 11], &[183, 0]].concat();
        let here = ("uname", "echo x86_64");
        let told = "it is a program for aarch64, and this is x86_64";
        let said = installs(PackageKind::Program, &arm, &[here]);
        assert!(said.contains(told) && !said.contains("end 0"), "{said}");
        // What fits is tried; it is no program at all.
        arm[18] = 62;
        let said = installs(PackageKind::Program, &arm, &[here]);
        assert!(!said.contains("it is a program for"), "{said}");
        let log = "echo \"$0 $*\" >&2; case $1 in --print-architecture) echo amd64 ;; \
                   --install) echo INSTALLED ;; esac";
        let dpkg = ("dpkg", log);
        for (architecture, installed) in [("arm64", false), ("amd64", true), ("all", true)] {
            let field = format!("echo {architecture}");
            let said = installs(PackageKind::Deb, b"!<arch>", &[dpkg, ("dpkg-deb", &field)]);
            assert_eq!(said.contains("INSTALLED"), installed, "{said}");
            let told = "it is a package for arm64, and this is amd64";
            assert_eq!(said.contains(told), !installed, "{said}");
        }
        for (architecture, installed) in [("aarch64", false), ("x86_64", true), ("noarch", true)] {
            let rpm = format!(
                "case $1 in --query) echo {architecture} ;; --upgrade) echo INSTALLED ;; esac"
            );
            let said = installs(PackageKind::Rpm, b"rpm", &[here, ("rpm", &rpm)]);
            assert_eq!(said.contains("INSTALLED"), installed, "{said}");
        }
    }
}
