//! By command: exit codes, documents, the switch, and what `prune` leaves alone.

use super::*;
use crate::support::cli::Cli;

#[test]
fn what_is_told_is_in_documents_and_prune_leaves_it_alone() {
    if !crate::support::host::available("alarm: by command") {
        return;
    }
    let cli = Cli::new();
    let disk = LoopDisk::holding(&text(96 * MIB, 1), &["--direct-io=on"]);
    let device = disk.device.as_str();
    cli.run(&["init", cli.vault()]).expect(0);
    let snapshot = |more: &[&str], code: i32| {
        let args = [&["snapshot", device, "--json"], more].concat();
        cli.run(&args).expect(code).json()
    };
    let clean = snapshot(&[], 0)["snapshot"].as_str().unwrap().to_owned();
    disk.write_at(0, &noise(33 * MIB, 2));
    let told = snapshot(&[], 3);
    let alarm = &told["disks"][0]["rewritten"]["alarm"];
    assert_eq!(
        (&alarm["clean"], &alarm["told"]),
        (&told["disks"][0]["parent"], &told["snapshot"])
    );
    assert_eq!(alarm["clean"], clean);
    let warnings = told["warnings"].to_string();
    assert!(
        warnings.contains(TOLD) && warnings.contains("is held"),
        "{warnings}"
    );
    let hold = format!("encryption-alarm-{}", told["snapshot"].as_str().unwrap());

    // What `show`, `list` and `keep` say, and that rules do not take it.
    let shown = cli.run(&["show", &clean, "--json"]).expect(0).json();
    assert_eq!(shown["kept"]["holds"][0], hold);
    let shown = cli.run(&["show", "latest"]).expect(0).stdout;
    assert!(shown.contains(TOLD), "{shown}");
    let listed = cli.run(&["list"]).expect(0).stdout;
    assert!(listed.contains(&hold), "{listed}");
    let pruned = cli.run(&["prune", "--keep-last", "1", "--json"]);
    let pruned = pruned.json().to_string();
    assert!(pruned.contains("\"kept\""), "{pruned}");
    cli.run(&["show", &clean]).expect(0);
    cli.run(&["keep", &clean, "--release", &hold]).expect(0);

    // The switch: by flag, and by the file, before which the flag goes.
    let folder = cli.folder().join("etc");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[alarm]\nencryption = false\n").unwrap();
    let file = folder.join("config.toml").to_str().unwrap().to_owned();
    disk.write_at(0, &text(96 * MIB, 3));
    snapshot(&["--full"], 0);
    disk.write_at(0, &noise(33 * MIB, 4));
    let quiet = snapshot(&["--config", &file], 0);
    assert_eq!(quiet["disks"][0]["rewritten"]["hardly_pack"], blocks(33));
    disk.write_at(0, &text(96 * MIB, 5));
    snapshot(&["--full"], 0);
    disk.write_at(0, &noise(33 * MIB, 6));
    snapshot(&["--encryption-alarm", "off"], 0);
    disk.write_at(0, &text(96 * MIB, 7));
    snapshot(&["--full"], 0);
    disk.write_at(0, &noise(33 * MIB, 8));
    snapshot(&["--config", &file, "--encryption-alarm", "on"], 3);
}
