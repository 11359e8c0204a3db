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
    for page in [
        "man1/stillpoint.1",
        "man1/stillpoint-job-wait.1",
        "man7/stillpoint-rescue.7",
    ] {
        assert!(root.join("opt/sp/share/man").join(page).is_file(), "{page}");
    }
}
