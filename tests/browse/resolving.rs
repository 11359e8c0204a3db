//! What a path of the host leads to.

use super::stage::{Stage, possible};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use stillpoint::ErrorKind;
use stillpoint::export::{NodeKind, NodeSeen, TreeStep, TreeWalk, WalkOrder};

/// A root with `/data`, which hides what lies below it, subvolumes, and `/run` in memory.
fn stage() -> Stage {
    let stage = Stage::new(
        &[
            &[("/", "/@"), ("/home", "/@home")],
            &[
                ("/data", "/"),
                ("/srv/inner/most", "/x"),
                ("/run/media", "/m"),
            ],
        ],
        &[("/run", "tmpfs")],
    );
    for path in [
        "@/etc",
        "@/data/old",
        "@/run/hidden",
        "@/home",
        "@home/me",
        "@/srv",
    ] {
        fs::create_dir_all(stage.at(0, path)).unwrap();
    }
    for path in ["x/deep", "m"] {
        fs::create_dir_all(stage.at(1, path)).unwrap();
    }
    for (filesystem, path) in [
        (0, "@/etc/hostname"),
        (0, "@/etc/passwd"),
        (0, "@home/me/mine"),
        (0, "outside"),
        (1, "file"),
        (1, "x/deep/a"),
        (1, "m/stick"),
    ] {
        fs::write(stage.at(filesystem, path), path).unwrap();
    }
    for (filesystem, path, to) in [
        (0, "@/absolute", "/data/file"),
        (0, "@/etc/out", "../../../../../../etc/passwd"),
        (0, "@/round", "round"),
        (0, "@/to-home", "home/./me/../me"),
        (1, "up", "../etc/hostname"),
        (1, "far", "/proc/self/root/etc/passwd"),
        (1, "nowhere", "/none/such"),
    ] {
        symlink(to, stage.at(filesystem, path)).unwrap();
    }
    stage
}

/// The place that a path leads to, and what the file there says.
fn found(stage: &Stage, path: &str) -> (String, String) {
    let node = stage
        .resolve(path)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let NodeSeen::File { handle, .. } = &node.seen else {
        panic!("{path}: {node:?}");
    };
    let open = stillpoint::sys::handle::open_handle(handle, nix::fcntl::OFlag::O_RDONLY).unwrap();
    let text = std::io::read_to_string(fs::File::from(open)).unwrap();
    (node.place.to_str().unwrap().to_owned(), text)
}

#[test]
fn a_path_leads_where_it_led_on_the_host() {
    let stage = stage();
    for (path, place, says) in [
        ("/etc/hostname", "/etc/hostname", "@/etc/hostname"),
        ("etc//./hostname", "/etc/hostname", "@/etc/hostname"),
        ("/data/file", "/data/file", "file"),
        ("/home/me/mine", "/home/me/mine", "@home/me/mine"),
        ("/absolute", "/data/file", "file"),
        ("/to-home/mine", "/home/me/mine", "@home/me/mine"),
        ("/data/up", "/etc/hostname", "@/etc/hostname"),
        ("/data/../etc/hostname", "/etc/hostname", "@/etc/hostname"),
        ("/home/me/../../data/file", "/data/file", "file"),
        (
            "/srv/inner/most/deep/a",
            "/srv/inner/most/deep/a",
            "x/deep/a",
        ),
        ("/run/media/stick", "/run/media/stick", "m/stick"),
        // Out of the tree there is nothing.
        ("/etc/out", "/etc/passwd", "@/etc/passwd"),
        ("/../../../etc/passwd", "/etc/passwd", "@/etc/passwd"),
    ] {
        assert_eq!(found(&stage, path), (place.into(), says.into()), "{path}");
    }
    let last = stage
        .source()
        .resolve(Path::new("/absolute"), false)
        .unwrap();
    assert_eq!(last.seen.kind(), Some(NodeKind::Link));
}

#[test]
fn what_is_not_there_is_said_in_words() {
    let stage = stage();
    for (path, kind, words) in [
        ("/none", ErrorKind::NotFound, "no /none"),
        ("/data/nowhere", ErrorKind::NotFound, "no /none"),
        // Hidden on the host by what was mounted there.
        ("/data/old", ErrorKind::NotFound, "no /data/old"),
        (
            "/run/hidden",
            ErrorKind::NotFound,
            "mounted at /run (tmpfs)",
        ),
        ("/outside", ErrorKind::NotFound, "no /outside"),
        ("/data/far", ErrorKind::NotFound, "no /proc"),
        ("/etc/hostname/x", ErrorKind::NotFound, "no directory"),
        ("/etc/hostname/..", ErrorKind::NotFound, "no directory"),
        ("/round", ErrorKind::Usage, "more than 40 symlinks"),
    ] {
        let error = stage.resolve(path).unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {error}");
        assert!(error.to_string().contains(words), "{path}: {error}");
    }
}

#[test]
fn without_a_root_there_are_the_ways_to_what_was_mounted() {
    let stage = Stage::new(&[&[("/srv/data", "/"), ("/srv/data/in/ner", "/a")]], &[]);
    fs::create_dir(stage.at(0, "a")).unwrap();
    fs::write(stage.at(0, "a/b"), "b").unwrap();
    let node = stage.resolve("/srv").unwrap();
    assert!(matches!(node.seen, NodeSeen::Between), "{node:?}");
    assert_eq!(found(&stage, "/srv/data/a/b").1, "b");
    let error = stage.resolve("/etc").unwrap_err();
    assert!(
        error.to_string().contains("mounted at or above /etc"),
        "{error}"
    );
    let mut walk = TreeWalk::new(stage.source(), WalkOrder::ByName);
    walk.enter(stage.resolve("/").unwrap()).unwrap();
    let mut places = Vec::new();
    while let Some(step) = walk.step().unwrap() {
        match step {
            TreeStep::Found(node) => {
                places.push(node.place.to_str().unwrap().to_owned());
                if node.seen.kind() == Some(NodeKind::Directory) {
                    walk.enter(node).unwrap();
                }
            }
            TreeStep::Left { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let inner = ["/srv/data/in", "/srv/data/in/ner", "/srv/data/in/ner/b"];
    let all = ["/srv", "/srv/data", "/srv/data/a", "/srv/data/a/b"];
    assert_eq!(places, [&all[..], &inner].concat());
}

#[test]
fn a_folder_of_a_filesystem_that_is_a_symlink_is_not_followed() {
    if !possible("resolving") {
        return;
    }
    let stage = Stage::new(&[&[("/", "/"), ("/sub", "/@sub/x")]], &[]);
    symlink("/etc", stage.at(0, "@sub")).unwrap();
    let error = stage.resolve("/sub").unwrap_err();
    assert!(error.to_string().contains("/@sub/x"), "{error}");
}
