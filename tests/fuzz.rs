//! Every decoder of bytes that others have written, fed with valid inputs that were changed at
//! random: none may panic, take memory or time without bound, or read back something else than it
//! wrote. Each runs for some seconds in a process of its own, whose input of the moment is on disk,
//! whatever becomes of the process.
//!
//! `STILLPOINT_FUZZ_SECONDS=3600 cargo test fuzz::` runs each for an hour. An input that breaks one
//! is kept as a file below `tests/fixtures/fuzz/<decoder>/`, and is tried first from then on.

mod input;
mod lvm;
mod sealed;
mod targets;

use crate::support::model::Chance;
use input::{corpus, mutate};
use nix::sys::resource::{Resource, setrlimit};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};
use targets::{TARGETS, Target};

const CHILD: &str = "STILLPOINT_FUZZ_CHILD";
const AT: &str = "STILLPOINT_FUZZ_AT";
/// How long each decoder is fed.
const SECONDS: &str = "STILLPOINT_FUZZ_SECONDS";
const USUAL: u64 = 4;
/// All that the child may allocate: no decoder unpacks more than 64 MiB.
const MEMORY: u64 = 256 << 20;
/// The longest input: more finds nothing more, and takes long.
const LONGEST: usize = 64 << 10;

fn seconds() -> u64 {
    let told = std::env::var(SECONDS).ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(USUAL)
}

fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no decoder is called {name}"))
}

/// The child of the tests below: does nothing when it is run as a test of its own.
#[test]
fn fed_child() {
    let Ok(name) = std::env::var(CHILD) else {
        return;
    };
    let at = std::env::var(AT).unwrap();
    let (target, seconds) = (target(&name), seconds());
    setrlimit(Resource::RLIMIT_DATA, MEMORY, MEMORY).unwrap();
    // Of processor time: a decoder that does not come to its end is ended.
    setrlimit(Resource::RLIMIT_CPU, 2 * seconds + 60, 2 * seconds + 60).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut chance = Chance(now.unwrap().as_nanos() as u64);
    let mut kept = (target.seeds)();
    kept.extend(corpus(&name));
    let feed = |input: &[u8]| {
        fs::write(&at, input).unwrap();
        (target.feed)(input)
    };
    let understood = kept.iter().filter(|input| feed(input)).count();
    assert!(understood > 0, "no seed is understood");
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut fed, mut good) = (0_u64, 0_u64);
    while Instant::now() < until {
        let which = chance.below(kept.len() as u64) as usize;
        let mut input = kept[which].clone();
        for _ in 0..=chance.below(4) {
            mutate(&mut input, &kept, &mut chance);
        }
        input.truncate(LONGEST);
        fed += 1;
        if feed(&input) {
            good += 1;
            // What is still understood leads to more that is.
            if kept.len() < 500 {
                kept.push(input);
            }
        }
    }
    println!("{name}: {fed} inputs, {good} of them understood");
    assert!(fed > 20, "{fed} inputs");
}

fn fuzz(name: &str) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let at = folder.path().join("input");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["fuzz::fed_child", "--exact", "--nocapture"])
        .env(CHILD, name)
        .env(AT, &at)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    print!("{said}");
    if output.status.success() && said.contains("1 passed") {
        return;
    }
    let input = fs::read(&at).unwrap_or_default();
    let hash = blake3::hash(&input).to_hex();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{}", &hash[..16]));
    fs::write(&kept, &input).unwrap();
    let (status, kept) = (output.status, kept.display());
    panic!("{name}: {status}; the input is {kept}: keep it below tests/fixtures/fuzz/{name}/");
}

macro_rules! fuzzed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        #[test]
        fn every_decoder_is_fuzzed() {
            let names = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|target| names.contains(&target.name)));
        }
    };
}

fuzzed! {
    chunk envelope index job_record keep key_entry lvm_label lvm_text manifest md_label mounts names
    sealed_object segment session table vault_info
}
