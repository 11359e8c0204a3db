//! `ls` and `cp` as users run them, on snapshots of mounted disks.

use super::alike::differences;
use super::stage::fill;
use crate::mount::attached::assert_nothing_attached;
use crate::support::cli::Cli;
use crate::support::host::{LoopDisk, Mount, format, partition, run};
use crate::support::rig::Rig;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

/// A host with an ext4 in a partition, and a btrfs with a subvolume mounted in it.
struct HostScene {
    cli: Cli,
    disks: [LoopDisk; 2],
    inner: Mount,
    outer: Mount,
}

impl HostScene {
    fn new(test: &str) -> Option<Self> {
        Self::filled(test, |_| {})
    }

    /// With more in the tree of the outer filesystem.
    fn filled(test: &str, more: impl FnOnce(&Path)) -> Option<Self> {
        Rig::new(test)?;
        let cli = Cli::new();
        let disks = [64, 160].map(|mib| LoopDisk::new(mib << 20));
        partition(disks[0].path(), &[(2048, 100_000)]);
        let part = format!("{}p1", disks[0].device);
        format("ext4", &part);
        let outer = Mount::somewhere(Path::new(&part), "rw");
        fs::create_dir(outer.place.join("hidden")).unwrap();
        fs::write(outer.place.join("hidden/old"), "old").unwrap();
        format("btrfs", &disks[1].device);
        let whole = Mount::somewhere(disks[1].path(), "rw");
        run(
            "btrfs",
            &["subvolume", "create", &format!("{}/@data", whole.path())],
        );
        drop(whole);
        let inner = Mount::new(
            &disks[1].device,
            &outer.place.join("hidden"),
            "subvol=@data",
        );
        for place in [&inner.place, &outer.place] {
            fs::create_dir(place.join("tree")).unwrap();
            fill(&place.join("tree"));
        }
        more(&outer.place.join("tree"));
        symlink(inner.place.join("tree"), outer.place.join("link")).unwrap();
        run("sync", &["-f", inner.path()]);
        let scene = Self {
            cli,
            disks,
            inner,
            outer,
        };
        scene.cli.run(&["init", scene.cli.vault()]).expect(0);
        let names = scene.disks.each_ref().map(|disk| disk.device.as_str());
        let taken = scene.cli.run(&["snapshot", names[0], names[1], "--json"]);
        assert!(matches!(taken.code, Some(0 | 3)), "{taken:?}");
        Some(scene)
    }

    fn in_outer(&self, path: &str) -> String {
        format!("latest:{}/{path}", self.outer.path())
    }

    fn assert_clean(&self) {
        assert_nothing_attached(&self.cli.folder().join("run"));
    }
}

#[test]
fn files_are_found_by_their_paths_on_the_host() {
    let Some(scene) = HostScene::new("browse: by command") else {
        return;
    };
    let cli = &scene.cli;
    let to = cli.folder().join("to");
    fs::create_dir(&to).unwrap();
    let dest = to.to_str().unwrap();
    // What happens after the snapshot is not in it.
    let truth = |path: &str| scene.outer.place.join(path);
    let copied = cli.run(&["cp", &scene.in_outer("tree"), dest]).expect(0);
    assert!(
        copied
            .stdout
            .lines()
            .last()
            .unwrap()
            .starts_with("copied 12 files"),
        "{copied:?}"
    );
    assert_eq!(
        differences(&truth("tree"), &to.join("tree")),
        Vec::<String>::new()
    );
    // The subvolume, through the symlink.
    let named = to.join("named");
    let args = [
        "cp",
        "--json",
        &scene.in_outer("link/"),
        named.to_str().unwrap(),
    ];
    let document = cli.run(&args).expect(0).json();
    assert_eq!(document["copied"][0]["to"], named.to_str().unwrap());
    assert!(document.as_object().unwrap().contains_key("requests"));
    assert_eq!(
        differences(&truth("hidden/tree"), &named),
        Vec::<String>::new()
    );
    // What it hides was not to be seen.
    let error = cli
        .run(&["cp", "--json", &scene.in_outer("hidden/old"), dest])
        .expect(1)
        .json();
    assert_eq!(error["error"]["kind"], "not_found");
    let disk = scene.disks[0].name();
    let inside = ["--disk", &disk, "--partition", "1"];
    let text = cli
        .run(&[&["cp", "latest:/hidden/old", "-"][..], &inside].concat())
        .expect(0);
    assert_eq!(text.stdout, "old");
    assert!(text.stderr.contains("copied 1 file"), "{text:?}");

    let all = cli.run(&["ls", "latest"]).expect(0).stdout;
    assert!(
        all.contains(scene.inner.path()) && all.contains("/@data"),
        "{all}"
    );
    let names = cli.run(&["ls", &scene.in_outer("")]).expect(0).stdout;
    assert_eq!(names, "hidden\nlink\nlost+found\ntree\n");
    let long = cli
        .run(&["ls", "-lR", &scene.in_outer("tree")])
        .expect(0)
        .stdout;
    for line in [
        "etc/deep/er/one",
        "-rwsr-x--x",
        "name\\xff\\n",
        "\\u{1b}[31m",
        "-> ../../somewhere",
    ] {
        assert!(long.contains(line), "{line}: {long}");
    }
    let document = cli
        .run(&["ls", "--json", &scene.in_outer("tree/etc")])
        .expect(0)
        .json();
    let entries = document["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 4, "{entries:?}");
    scene.assert_clean();
}

/// A list of any length takes little memory, and ends when nobody reads it.
#[test]
fn a_long_list_is_written_as_it_is_found() {
    let Some(scene) = HostScene::filled("browse: long list", |place| {
        for number in 0..8_000 {
            fs::write(place.join(format!("{number:05}{}", "x".repeat(200))), "").unwrap();
        }
    }) else {
        return;
    };
    let tree = scene.in_outer("tree");
    let few = scene
        .cli
        .run(&["ls", &scene.in_outer("tree/etc")])
        .expect(0);
    let all = scene.cli.run(&["ls", "-R", &tree]).expect(0);
    assert!(all.stdout.len() > 1_600_000 && all.stdout.lines().count() > 8_000);
    let long = all.stdout.lines().filter(|line| line.len() > 204);
    assert!(long.is_sorted());
    let (some, most) = (few.peak_memory, all.peak_memory);
    assert!(most < 256 << 20, "{most} bytes, of few names {some}");
    let mut command = scene.cli.command(&["ls", "-R", &tree]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    let begun = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20));
    scene.assert_clean();
}

/// Who waits for a reader hears a signal.
#[test]
fn a_reader_that_does_not_read_keeps_nothing_attached() {
    let Some(scene) = HostScene::new("browse: no reader") else {
        return;
    };
    let file = scene.in_outer("tree/etc/deep/er/one");
    let mut command = scene.cli.command(&["cp", &file, "-"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(143));
    scene.assert_clean();
}

#[test]
fn bad_input_is_refused_in_words() {
    let Some(scene) = HostScene::new("browse: refused") else {
        return;
    };
    let cli = &scene.cli;
    let to = cli.folder().join("to");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("tree"), "mine").unwrap();
    let dest = to.to_str().unwrap();
    let tree = scene.in_outer("tree");
    for (args, code, words) in [
        (vec!["cp", "latest", dest], 2, "a snapshot without a path"),
        (vec!["cp", "/etc/fstab", dest], 2, "give ID:PATH"),
        (vec!["cp", &tree, dest], 1, "is there already"),
        (vec!["cp", &tree, "/none/such/name"], 1, "/none/such"),
        (vec!["cp", &tree, "-"], 2, "is no plain file"),
        (
            vec!["cp", "--overwrite", &tree, "latest:/x/tree", dest],
            2,
            "two copies would be",
        ),
        (vec!["cp", "--json", "latest:/x", "-"], 2, "not both"),
        (vec!["ls", "latest:/none"], 1, "mounted at / ("),
        (vec!["ls", "latest:/x", "--partition", "1"], 2, "--disk"),
        (vec!["ls", "latest:/x", "--disk", "none"], 1, "none"),
        (vec!["ls", "01ZZ:/x"], 1, "01ZZ"),
    ] {
        let run = cli.run(&args).expect(code);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(fs::read_to_string(to.join("tree")).unwrap(), "mine");
    cli.run(&[
        "cp",
        "--overwrite",
        &scene.in_outer("tree/etc/hostname"),
        dest,
    ])
    .expect(0);
    assert_eq!(fs::read_to_string(to.join("hostname")).unwrap(), "before");
    scene.assert_clean();
}

/// However it ends, nothing stands under the copy's name that is not whole, and nothing stays
/// attached.
#[test]
fn killed_anywhere_nothing_half_copied_has_its_name() {
    let Some(scene) = HostScene::new("browse: killed") else {
        return;
    };
    let to = scene.cli.folder().join("to");
    let truth = scene.outer.place.join("tree");
    let mut in_the_middle = 0;
    for delay in [0, 0, 1, 2, 5, 10, 20, 400] {
        let _ = fs::remove_dir_all(&to);
        fs::create_dir(&to).unwrap();
        let names = || -> Vec<String> {
            let all = fs::read_dir(&to).unwrap();
            all.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect()
        };
        let dest = to.to_str().unwrap();
        let mut command = scene.cli.command(&["cp", &scene.in_outer("tree"), dest]);
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // So long after it has begun to copy.
        while names().is_empty() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let until = Instant::now() + Duration::from_millis(delay);
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().unwrap();
        scene.assert_clean();
        let left = names();
        let unfinished = |name: &String| name.starts_with(".stillpoint-cp-");
        in_the_middle += u32::from(left.iter().any(unfinished));
        let copy = to.join("tree");
        if copy.exists() {
            assert_eq!(
                differences(&truth, &copy),
                Vec::<String>::new(),
                "after {delay} ms"
            );
        }
    }
    assert!(
        in_the_middle > 1,
        "{in_the_middle} were killed while they copied"
    );
}
