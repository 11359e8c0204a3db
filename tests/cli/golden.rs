//! What each command says to people, word for word: `tests/cli/golden/COMMAND.txt`. How to write
//! those anew stands in `tests/support/golden.rs`.

use super::lab::{Disk, Lab, Run, finish, noise};
use crate::support::golden::{self, Normal};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One host, and what is said on it.
struct Scene {
    /// First: it is mounted in the lab's folder, which goes after it.
    disk: Disk,
    lab: Lab,
    normal: Normal,
    /// By command.
    pages: BTreeMap<&'static str, String>,
}

const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

impl Scene {
    fn new() -> Option<Self> {
        let lab = Lab::new("cli: golden")?;
        let mut disk = lab.disk("disk", 24 << 20);
        let place = disk.mount("ext4");
        fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
        let mut normal = Normal::default();
        normal.call(lab.dir.path().to_str().unwrap(), "/DIR");
        normal.call(disk.name(), "DISK");
        let host = nix::unistd::gethostname().unwrap();
        normal.call(host.to_str().unwrap(), "HOST");
        let kernel = nix::sys::utsname::uname().unwrap();
        normal.call(kernel.release().to_str().unwrap(), "KERNEL");
        normal.call(env!("CARGO_PKG_VERSION"), "VERSION");
        Some(Self {
            lab,
            disk,
            normal,
            pages: BTreeMap::new(),
        })
    }

    fn filled_in(&self, command: &str) -> Vec<String> {
        let words = command.split_whitespace();
        let words = words.map(|word| word.replace("DIR", self.lab.dir.path().to_str().unwrap()));
        words
            .map(|word| word.replace("DISK", self.disk.name()))
            .collect()
    }

    /// Runs a command, and keeps what it says on the page of a command.
    fn say(&mut self, page: &'static str, command: &str) -> Run {
        let words = self.filled_in(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = match words.strip_prefix(&["NOBODY"]) {
            Some(words) => finish(&mut self.lab.command_with(&NOBODY, words)),
            None => self.lab.run(&words),
        };
        self.keep(page, command, &run);
        run
    }

    fn keep(&mut self, page: &'static str, command: &str, run: &Run) {
        let is_progress = |line: &&str| !line.starts_with("copying") && !line.contains(" %");
        let told: Vec<&str> = run.stderr.lines().filter(is_progress).collect();
        let command = self.normal.text(command);
        // Another test's process may have a copy of all mounts.
        let stdout = self.normal.text(&run.stdout).replace(", at N places", "");
        let stderr = self.normal.text(&told.join("\n"));
        let text = self.pages.entry(page).or_default();
        text.push_str(&format!("$ stillpoint {command}\n"));
        let lines = stderr.lines().map(|line| format!("! {line}\n"));
        let lines = lines.chain(stdout.lines().map(|line| format!("{line}\n")));
        text.extend(lines);
        match run.code {
            0 => text.push('\n'),
            code => text.push_str(&format!("exit code {code}\n\n")),
        }
    }

    /// A host with a vault that has two snapshots: the first, and one of what was written since.
    fn with_two_snapshots() -> Option<Self> {
        for _ in 0..5 {
            let mut scene = Self::new()?;
            scene.say("snapshot", "snapshot DISK").expect(1);
            scene.say("init", "init DIR/vault").expect(0);
            scene.say("init", "init DIR/vault").expect(1);
            scene.say("list", "list").expect(0);
            scene.say("info", "info").expect(0);
            scene.say("show", "show latest").expect(1);
            scene.say("snapshot", "snapshot DISK").expect(0);
            let place = scene.disk.mounted.clone().unwrap();
            fs::write(place.join("other"), noise(1 << 20, 2)).unwrap();
            let second = scene.say("snapshot", "snapshot DISK").expect(0);
            if second.stdout.contains(": incremental (") {
                return Some(scene);
            }
            // A write was hidden from tracking, or what told of the disk's size: on another one.
            assert!(second.stdout.contains(": compare ("), "{second:?}");
        }
        panic!("tracking proved nothing five times in a row");
    }

    /// A sample that has read what the one before had not: now and then chance draws the same
    /// again.
    fn second_sample(&mut self, command: &str) {
        for _ in 0..50 {
            let words: Vec<&str> = command.split(' ').collect();
            let run = self.lab.run(&words).expect(0);
            if run.stdout.contains(" 2 of 3 segments ") {
                return self.keep("verify", command, &run);
            }
        }
        panic!("fifty samples have read one and the same");
    }

    /// The names of all snapshots, oldest first.
    fn ids(&self) -> Vec<String> {
        let list = self.lab.json(&["list"]);
        let all = list["snapshots"].as_array().unwrap().iter().rev();
        all.map(|one| one["snapshot"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Of what a command says of the whole host, what is about what the test has made.
    fn say_some(&mut self, page: &'static str, command: &str, wanted: &[&str]) {
        let words = self.filled_in(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut run = self.lab.run(&words);
        let wanted: Vec<String> = wanted
            .iter()
            .flat_map(|text| self.filled_in_line(text))
            .collect();
        let is_wanted = |line: &&str| wanted.iter().any(|text| line.contains(text));
        let lines: Vec<&str> = run.stdout.lines().filter(is_wanted).collect();
        run.stdout = lines.join("\n");
        run.code = 0;
        self.keep(page, command, &run);
    }

    fn filled_in_line(&self, text: &str) -> Option<String> {
        let text = text.replace("DIR", self.lab.dir.path().to_str()?);
        Some(text.replace("DISK", self.disk.name()))
    }
}

/// Another byte stands within each segment.
fn damage(lab: &Lab) {
    use std::os::unix::fs::FileExt;
    for (path, length) in lab.vault_files() {
        if path.starts_with(lab.path("vault/segments")) {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0xff; 8], length / 2).unwrap();
        }
    }
}

#[test]
fn golden_what_each_command_says() {
    let Some(mut scene) = Scene::with_two_snapshots() else {
        return;
    };
    snapshots(&mut scene);
    reading(&mut scene);
    mirroring(&mut scene);
    collecting(&mut scene);
    restoring(&mut scene);
    host(&mut scene);
    jobs(&mut scene);
    retention(&mut scene);
    locking(&mut scene);
    damaged(&mut scene);
    sealing(&mut scene);
    // All that is other than it was is told at once.
    let pages = scene.pages.iter();
    let wrong = pages.filter_map(|(page, text)| golden::difference(page, text));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), golden::MEANT);
}

fn snapshots(scene: &mut Scene) {
    let tagged = "snapshot DISK --full --level crash --tag why=test";
    scene.say("snapshot", tagged).expect(0);
    scene.say("snapshot", "snapshot").expect(2);
    scene.say("snapshot", "snapshot nosuch").expect(1);
    scene.say("snapshot", "snapshot DIR/disk").expect(2);
    scene.say("snapshot", "NOBODY snapshot DISK").expect(5);
    let lock = File::open(lock_of(scene)).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock);
    scene.say("snapshot", "snapshot DISK").expect(6);
    drop(lock.unwrap());
}

/// The file by which runs know that another is at work on the disk.
fn lock_of(scene: &Scene) -> std::path::PathBuf {
    let entries = fs::read_dir(scene.lab.path("run")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let is_lock = |path: &std::path::PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("disk-")
    };
    paths.find(is_lock).unwrap()
}

fn reading(scene: &mut Scene) {
    let ids = scene.ids();
    let (first, second) = (&ids[0], &ids[ids.len() - 2]);
    scene.say("list", "list").expect(0);
    scene.say("list", "list --tag why=test").expect(0);
    scene.say("list", "list --disk nosuch").expect(1);
    scene.say("list", "list --host nosuch").expect(1);
    scene.say("list", "list --vault DIR/nosuch").expect(1);
    scene.say("show", &format!("show {first}")).expect(0);
    scene.say("show", &format!("show {second}")).expect(0);
    scene.say("show", "show 00").expect(1);
    scene.say("show", "show 01").expect(2);
    scene
        .say("diff", &format!("diff {first} {second}"))
        .expect(0);
    scene
        .say("diff", &format!("diff {first} {first}"))
        .expect(0);
    scene
        .say("diff", &format!("diff {second} {first}"))
        .expect(2);
    scene.say("info", "info").expect(0);
    scene.say("verify", "verify --all").expect(0);
    scene.say("verify", "verify latest --sample 1%").expect(0);
    scene.second_sample("verify --all --sample 1%");
    scene.say("verify", "verify --all --fast").expect(0);
    scene.say("verify", "verify").expect(2);
    scene.say("verify", "verify 00").expect(1);
}

/// Makes what is in a folder 25 hours older.
pub fn make_older(lab: &Lab, folder: &str) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 60 * 60);
    for (path, _) in lab.vault_files() {
        if path.starts_with(lab.path(folder)) {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(then).unwrap();
        }
    }
}

/// A plan, and after more than a day what it named goes. A snapshot was deleted before.
fn collecting(scene: &mut Scene) {
    scene.say("gc", "gc --rewrite --dry-run").expect(0);
    scene.say("gc", "gc --grace 59m").expect(2);
    let run = scene
        .lab
        .run(&["snapshot", scene.disk.name(), "--full"])
        .expect(0);
    assert!(!run.stdout.is_empty());
    scene.lab.run(&["delete", "latest"]).expect(0);
    for folder in ["vault/segments", "vault/index"] {
        make_older(&scene.lab, folder);
    }
    scene.say("gc", "gc --dry-run").expect(0);
    scene.say("gc", "gc").expect(0);
    scene.say("gc", "gc").expect(0);
    make_older(&scene.lab, "vault/condemned");
    scene.say("gc", "gc").expect(0);
    scene.say("gc", "gc").expect(0);
}

fn mirroring(scene: &mut Scene) {
    let first = scene.ids().remove(0);
    scene.say("mirror", "mirror").expect(2);
    scene.say("mirror", "mirror --to DIR/vault").expect(2);
    let one = format!("mirror --to DIR/second {first}");
    scene.say("mirror", &one).expect(2);
    let one = format!("{one} --init");
    scene.say("mirror", &format!("{one} --dry-run")).expect(0);
    scene.say("mirror", &one).expect(0);
    scene.say("mirror", "mirror --to DIR/second").expect(0);
    scene.say("mirror", "mirror --to DIR/second").expect(0);
    scene.say("mirror", "mirror --to DIR/second 00").expect(1);
    cut_one_short(&scene.lab);
    scene.say("mirror", "mirror --to DIR/second").expect(4);
}

/// The second place loses the end of its longest segment.
fn cut_one_short(lab: &Lab) {
    let all = lab.files().into_iter();
    let segments = all.filter(|(path, _)| path.starts_with(lab.path("second/segments")));
    let (path, length) = segments.max_by_key(|(_, length)| *length).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length - 1).unwrap();
}

fn restoring(scene: &mut Scene) {
    let first = scene.ids().remove(0);
    let restore = format!("restore {first} DIR/restored");
    scene.say("restore", &restore).expect(0);
    scene.say("restore", &restore).expect(1);
    scene
        .say("restore", &format!("{restore} --disk nosuch"))
        .expect(1);
    scene.say("restore", "restore latest /dev/DISK").expect(6);
    scene.say("restore", "restore latest DIR/vault/x").expect(2);
    scene.say("restore", "restore 00 DIR/x").expect(1);
    mounting(scene, &first);
}

fn mounting(scene: &mut Scene, id: &str) {
    scene.say("mount", "mount list").expect(0);
    let mount = format!("mount {id} DIR/then");
    scene.say("mount", &mount).expect(1);
    fs::create_dir(scene.lab.path("then")).unwrap();
    // What else this host has mounted is not the test's.
    scene.say_some("mount", &mount, &["DISK", "is mounted"]);
    scene.say("mount", &mount).expect(6);
    scene.say("mount", "mount list").expect(0);
    scene.say("mount", "unmount DIR/then").expect(0);
    scene.say("mount", "unmount DIR/nosuch").expect(1);
    scene.say("mount", "NOBODY mount latest DIR/then").expect(5);
    scene.say("mount", "mount").expect(2);
}

fn host(scene: &mut Scene) {
    scene.say_some("disks", "disks", &["TRACKED", "DISK", "DIR"]);
    let vault = ["vault", "freezing DIR", "frozen by others"];
    scene.say_some("doctor", "doctor", &vault);
    scene.say_some("doctor", "doctor --vault DIR/nosuch", &["vault"]);
    scene.say("thaw", "thaw").expect(0);
    scene.say("thaw", "NOBODY thaw").expect(5);
    scene.say("track", "track status").expect(0);
    scene.say("track", "track stop DISK").expect(0);
    scene.say("track", "track start nosuch").expect(1);
}

fn jobs(scene: &mut Scene) {
    let started = scene.say("job", "verify --all --detach").expect(0);
    assert!(started.stdout.starts_with("job "));
    scene.say("job", "job wait latest").expect(0);
    scene.say("job", "job status latest").expect(0);
    scene.say("job", "job cancel latest").expect(3);
    scene.say("job", "job status 00").expect(1);
    // The other jobs of this test are many.
    fs::remove_dir_all(scene.lab.path("jobs")).unwrap();
    scene.say("job", "job list").expect(0);
    scene.lab.run(&["snapshot", "nosuch"]).expect(1);
    scene.say("job", "job list").expect(0);
    scene.say("job", "NOBODY job list").expect(5);
}

/// What is kept, and what goes by rules.
fn retention(scene: &mut Scene) {
    let first = scene.ids().remove(0);
    scene.say("keep", &format!("keep {first}")).expect(0);
    let held = scene.say("keep", &format!("keep {first} --hold audit"));
    held.expect(0);
    scene
        .say("keep", &format!("keep {first} --release law"))
        .expect(1);
    scene.say("delete", &format!("delete {first}")).expect(6);
    scene.say("list", "list").expect(0);
    scene.say("prune", "prune").expect(2);
    scene.say("prune", "prune --keep-last 0").expect(2);
    scene
        .say("prune", "prune --keep-last 1 --host nosuch")
        .expect(1);
    scene
        .say("prune", "prune --keep-last 1 --dry-run")
        .expect(0);
    let released = scene.say("keep", &format!("keep {first} --release audit"));
    released.expect(0);
    scene
        .say("delete", &format!("delete {first} --dry-run"))
        .expect(0);
    scene
        .say("prune", "prune --keep-last 2 --tag why=test")
        .expect(0);
}

/// What a directory cannot do.
fn locking(scene: &mut Scene) {
    scene.say("lock", "lock").expect(2);
    scene.say("lock", "lock --rule forever").expect(2);
    scene.say("lock", "lock --rule compliance:7d").expect(5);
    let init = "init DIR/locked --lock governance:7d";
    scene.say("lock", init).expect(5);
}

fn damaged(scene: &mut Scene) {
    let ids = scene.ids();
    let last = ids.last().unwrap();
    scene.say("delete", &format!("delete {last}")).expect(0);
    scene
        .say("delete", &format!("delete {} 00", ids[0]))
        .expect(1);
    scene.say("repair", "repair").expect(0);
    damage(&scene.lab);
    scene.say("verify", "verify --all").expect(4);
    scene.say("verify", "verify --all --fast").expect(3);
    scene.say("repair", "repair").expect(4);
    scene
        .say("repair", "repair --from DIR/second --dry-run")
        .expect(4);
    scene.say("repair", "repair --from DIR/second").expect(0);
    scene.say("repair", "repair --from DIR/vault").expect(2);
    scene.say("repair", "repair --from DIR/nosuch").expect(2);
}

/// A file that no test reads proves nothing.
#[test]
fn golden_files_are_all_read() {
    let mut sources = String::new();
    for file in [
        "golden.rs",
        "refused.rs",
        "hints.rs",
        "../client/golden.rs",
        "../fleet/golden.rs",
        "../plans/golden.rs",
    ] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/cli")
            .join(file);
        sources.push_str(&fs::read_to_string(file).unwrap());
    }
    for file in fs::read_dir(golden::folder()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(sources.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// An encrypted vault, and its keys.
fn sealing(scene: &mut Scene) {
    for name in ["key1", "key2", "key3"] {
        let path = scene.lab.path(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let sealed = "--vault DIR/sealed";
    let with = "--vault DIR/sealed --password-file DIR/key1";
    let wrong = "--vault DIR/sealed --password-file DIR/key3";
    let mut say = |command: String, code| scene.say("key", &command).expect(code);
    say("key list".into(), 5);
    say(
        "init DIR/sealed --encrypt --password-file DIR/key1".into(),
        0,
    );
    say(format!("list {sealed}"), 5);
    say(format!("list {wrong}"), 5);
    say("list --password-file DIR/key1".into(), 5);
    say(format!("list {sealed} --password-file DIR/no-key"), 5);
    say("init DIR/other --encrypt".into(), 5);
    say(
        format!("key add --label office --new-password-file DIR/key2 {with}"),
        0,
    );
    say(format!("key list {sealed}"), 0);
    say(format!("key export --writer DIR/writer {with}"), 0);
    say(format!("key change --new-password-file DIR/key3 {with}"), 0);
    let writer = "--vault DIR/sealed --password-file DIR/writer";
    say(
        format!("key change --new-password-file DIR/key1 {writer}"),
        5,
    );
    say(format!("key remove nosuch {wrong}"), 1);
}
