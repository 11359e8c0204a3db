//! The pages where they are needed: on a terminal, in a file, for programs, for a user who is not
//! root, and as they are installed.

use super::lab::{Lab, PROGRAM, finish, tool};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[test]
fn a_terminal_gets_a_pager_and_others_the_page() {
    let Some(lab) = Lab::new("a_terminal_gets_a_pager_and_others_the_page") else {
        return;
    };
    let shown = |pager: &str, stdout: Stdio| {
        let mut command = lab.command(&["help", "rescue"]);
        command.env("PAGER", pager).stdout(stdout).spawn().unwrap()
    };
    let ends_well = |mut child: Child| assert!(child.wait().unwrap().success());
    let page = lab.run(&["help", "rescue"]).expect(0).stdout;
    assert!(page.contains("\nMy instance is gone\n"), "{page}");

    let (file, paged) = (lab.path("file"), lab.path("paged"));
    let pager = format!("cat >{}", paged.display());
    ends_well(shown(&pager, fs::File::create(&file).unwrap().into()));
    assert_eq!(fs::read_to_string(&file).unwrap(), page);
    assert!(!paged.exists(), "a file was shown by a pager");

    let pty = nix::pty::openpty(None, None).unwrap();
    for end in [&pty.master, &pty.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    ends_well(shown(&pager, pty.slave.try_clone().unwrap().into()));
    assert_eq!(fs::read_to_string(&paged).unwrap(), page);
    // Without a pager it is on the terminal itself, which must be read meanwhile.
    let child = shown("/nowhere/a-pager", pty.slave.into());
    let mut printed = Vec::new();
    // It ends with an error, as the terminal's other side has gone.
    let _ = fs::File::from(pty.master).read_to_end(&mut printed);
    ends_well(child);
    let printed = String::from_utf8(printed).unwrap().replace("\r\n", "\n");
    assert!(printed.ends_with(&page), "{printed}");
}

#[test]
fn help_needs_neither_root_nor_a_vault() {
    let Some(lab) = Lab::new("help_needs_neither_root_nor_a_vault") else {
        return;
    };
    let program = Path::new("/dev/shm").join(format!("stillpoint-{}", std::process::id()));
    fs::copy(PROGRAM, &program).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut command = Command::new("setpriv");
    command
        .args(nobody)
        .arg(&program)
        .args(["help", "rescue", "--json"]);
    let run = finish(command.env_clear().current_dir("/"));
    fs::remove_file(&program).unwrap();
    let document = run.expect(0).json();
    assert_eq!(document["topic"], "rescue");
    let text = document["text"].as_str().unwrap();
    assert_eq!(text, lab.run(&["help", "rescue"]).expect(0).stdout);

    let unknown = lab.run(&["help", "nosuch"]).expect(2);
    assert!(unknown.stderr.contains("neither"), "{unknown:?}");
}

#[test]
fn what_is_installed_is_small_and_whole() {
    let Some(lab) = Lab::new("what_is_installed_is_small_and_whole") else {
        return;
    };
    let root = lab.path("root");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install");
    let mut command = Command::new(script);
    command
        .arg("/opt/sp")
        .env("STILLPOINT", PROGRAM)
        .env("DESTDIR", &root);
    let run = finish(&mut command).expect(0);
    let program = root.join("opt/sp/sbin/stillpoint");
    assert!(run.stdout.contains(program.to_str().unwrap()), "{run:?}");

    let lines = root.join("usr/lib/debug/opt/sp/sbin/stillpoint.debug");
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&program) < size(Path::new(PROGRAM)));
    let symbols = tool("objdump", &["-t", program.to_str().unwrap()]);
    assert!(symbols.contains("no symbols"), "it is not stripped");
    let sections = |path: &Path| tool("objdump", &["-h", path.to_str().unwrap()]);
    assert!(sections(&program).contains(".gnu_debuglink"));
    assert!(!sections(&program).contains(".debug_line"));
    assert!(sections(&lines).contains(".debug_line"));

    let program = program.to_str().unwrap();
    assert!(tool(program, &["help", "rescue"]).contains("My instance is gone"));
    for file in [
        "man/man1/stillpoint.1",
        "man/man1/stillpoint-job-wait.1",
        "man/man7/stillpoint-rescue.7",
        "bash-completion/completions/stillpoint",
        "zsh/site-functions/_stillpoint",
        "fish/vendor_completions.d/stillpoint.fish",
    ] {
        assert!(root.join("opt/sp/share").join(file).is_file(), "{file}");
    }
    readers_of_man_pages_agree(&root.join("opt/sp/share/man"));
}

/// Neither groff nor mandoc warns of anything but what is a matter of taste.
fn readers_of_man_pages_agree(folder: &Path) {
    for reader in ["man", "mandoc"] {
        if Command::new(reader).output().is_err() {
            crate::support::host::skipped("cli: man pages", &format!("no {reader}"));
            return;
        }
    }
    let listed = tool("find", &[folder.to_str().unwrap(), "-type", "f"]);
    let pages: Vec<&str> = listed.lines().collect();
    assert!(pages.len() > 40, "{pages:?}");
    for page in &pages {
        let args = ["--warnings=w", "-E", "UTF-8", "-l", page];
        let shown = finish(Command::new("man").args(args).env("MANWIDTH", "80")).expect(0);
        assert_eq!(shown.stderr, "", "{page}");
        assert!(shown.stdout.len() > 500, "{page}: {}", shown.stdout);
    }
    let said = finish(
        Command::new("mandoc")
            .args(["-T", "lint", "-W", "warning"])
            .args(&pages),
    );
    // It has no date, so that the same sources give the same page; clap breaks paragraphs twice.
    let taste = ["missing date", "skipping paragraph macro:"];
    let is_taste = |line: &&str| taste.iter().any(|known| line.contains(known));
    let other: Vec<&str> = said.stdout.lines().filter(|line| !is_taste(line)).collect();
    assert!(other.is_empty(), "{other:#?}");
    assert!(
        said.stdout.contains("missing date"),
        "mandoc has looked at nothing"
    );
}
