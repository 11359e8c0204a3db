//! What the program says when all is well, or nearly: what was done, and what it means.

use super::lab::{Lab, noise};

#[test]
fn what_is_said_says_what_was_done() {
    let Some(lab) = Lab::with_vault("what_is_said_says_what_was_done") else {
        return;
    };
    let (one, two) = (lab.disk("one", 1 << 20), lab.disk("two", 1 << 20));
    std::fs::write(&one.device, noise(1 << 20, 1)).unwrap();
    let (first, second) = (one.name(), two.name());

    // A first snapshot has nothing that it could differ from.
    let full = lab.run(&["snapshot", first, second]).expect(0);
    assert!(!full.stdout.contains("changed"), "{full:?}");
    let older = lab.json(&["list"])["snapshots"][0]["snapshot"].clone();
    std::fs::write(&two.device, noise(1 << 20, 2)).unwrap();
    let next = lab.run(&["snapshot", second]).expect(0);
    assert!(next.stdout.contains(", changed 1.00 MiB, "), "{next:?}");

    // Who asks for what a snapshot does not have learns which does.
    let newest = format!("the newest snapshot that has {first} is {older}");
    let newest = newest.replace('"', "");
    let target = lab.at("target");
    let id = lab.json(&["list"])["snapshots"][0]["snapshot"].clone();
    let id = id.as_str().unwrap();
    for args in [
        vec!["restore", id, "--disk", first, &target],
        vec!["diff", id, id, "--disk", first],
    ] {
        let run = lab.run(&args).expect(1);
        assert!(run.stderr.contains(&newest), "{run:?}");
    }
    // The latest with a disk is the newest that has it.
    let older = older.as_str().unwrap();
    let restored = lab.json(&["restore", "latest", "--disk", first, &target]);
    assert_eq!(restored["snapshot"], older);
    let same = lab.json(&["diff", "latest", "latest", "--disk", first]);
    assert_eq!((&same["from"], &same["to"]), (&older.into(), &older.into()));
    let both = format!("{first}={},{second}={}", lab.at("a"), lab.at("b"));
    let restored = lab.json(&["restore", "latest", "--map", &both]);
    assert_eq!(restored["snapshot"], older);
    let none = lab.run(&["restore", "latest", "--disk", "nosuch", &lab.at("none")]);
    let none = none.expect(1).stderr;
    assert!(none.contains("\"nosuch\""), "{none}");
    let which = lab.run(&["diff", older, older]).expect(2);
    assert!(which.stderr.contains("--disk\n"), "{which:?}");

    // A sample is not called the whole.
    let whole = lab.run(&["verify", "latest"]).expect(0);
    assert!(
        whole.stdout.contains("1 snapshot, 1 segment, "),
        "{whole:?}"
    );
    let sampled = lab.run(&["verify", "--all", "--sample", "50%"]).expect(0);
    assert!(sampled.stdout.contains("a sample"), "{sampled:?}");
    let document = lab.json(&["verify", "--all", "--sample", "50%"]);
    assert_eq!(
        (&document["segments"], &document["unread_segments"]),
        (&1.into(), &1.into())
    );

    // What is stopped is named, and with the last of them nothing stays pinned.
    let stopped = lab.run(&["track", "stop", first]).expect(0);
    let said = format!("{first}: tracked no more; its next snapshot cannot be incremental\n");
    assert_eq!(stopped.stdout, format!("{said}{}", status(&lab)));
    let stopped = lab.run(&["track", "stop", second]).expect(0);
    assert!(
        stopped.stdout.ends_with("\n0 disks are tracked\n"),
        "{stopped:?}"
    );
    assert!(
        !std::path::Path::new("/sys/fs/bpf")
            .join(lab.pins())
            .exists()
    );
}

fn status(lab: &Lab) -> String {
    lab.run(&["track", "status"]).expect(0).stdout
}
