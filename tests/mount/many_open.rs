//! Very many open files in one mount: what serves it has no part in that, and a limit that is met
//! is an error of whoever opens.

use super::place::{Part, Place};
use crate::support::host::available;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Opens so many files below two folders, again and again the same ones; says how many there are,
/// reads of each when it is told to, and closes them when its input ends. At the limit it tries
/// once more, and says the error.
const OPENER: &str = r#"
import errno, os, resource, sys
wanted, limit = int(sys.argv[1]), int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
paths = [os.path.join(at, name) for at, _, names in os.walk(sys.argv[3]) for name in names]
paths = [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
opened = []
try:
    while len(opened) < wanted:
        path = sys.argv[4] if len(opened) % 2 else paths[len(opened) // 2 % len(paths)]
        opened.append((path, os.open(path, os.O_RDONLY)))
    print("all", len(opened), flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], len(opened), flush=True)
sys.stdin.readline()
raw = {}
for number, (path, file) in enumerate(opened):
    at = number * 512 % (1 << 20)
    bytes = os.pread(file, 512, at)
    if path == sys.argv[4]:
        with_raw = raw.setdefault(at, bytes)
        assert len(bytes) == 512 and bytes == with_raw, number
print("read", len(opened), flush=True)
sys.stdin.readline()
"#;

struct Opener {
    child: std::process::Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Opener {
    fn new(place: &Place, wanted: usize, limit: usize) -> Self {
        let raw = place.dir.join("raw/vda.img");
        let mut child = Command::new("python3")
            .args(["-c", OPENER, &wanted.to_string(), &limit.to_string()])
            .args([place.fs(""), raw])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn go_on(&mut self) {
        let to = self.child.stdin.as_mut().unwrap();
        to.write_all(b"\n").unwrap();
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn descriptors(process: i32) -> usize {
    let folder = format!("/proc/{process}/fd");
    Path::new(&folder).read_dir().unwrap().count()
}

fn memory_mib(process: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

#[test]
fn ten_thousand_open_files_cost_the_server_nothing() {
    if !available("many open files") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    place.mount();
    let server = place.server();
    let before = descriptors(server);
    let mut many = Opener::new(&place, 10_000, 10_100);
    assert_eq!(many.hear(), "all 10000");
    assert_eq!(descriptors(server), before);
    // At a limit of its own a process hears so; others open on.
    let mut few = Opener::new(&place, 200, 100);
    let heard = few.hear();
    let count: usize = heard.strip_prefix("EMFILE ").unwrap().parse().unwrap();
    assert!((80..100).contains(&count), "{heard}");
    assert!(std::fs::read(place.fs("etc/hostname")).is_ok());
    few.go_on();
    assert_eq!(few.hear(), format!("read {count}"));
    many.go_on();
    assert_eq!(many.hear(), "read 10000");
    assert_eq!(descriptors(server), before);
    assert!(memory_mib(server) < 256, "{} MiB", memory_mib(server));
    drop((many, few));
    place.cli.run(&["unmount", place.dir()]).expect(0);
    place.assert_nothing_left();
}
