//! The folder of records by itself: readers beside a writer, hostile contents, what is removed.

use jiff::Timestamp;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use stillpoint::ErrorKind;
use stillpoint::job::{JobDirectory, JobId, JobProcess, JobRecord, JobState, PruneOptions};
use tempfile::TempDir;

fn folder() -> (TempDir, JobDirectory) {
    let outside = tempfile::tempdir().unwrap();
    let folder = JobDirectory::make(&outside.path().join("var/jobs")).unwrap();
    (outside, folder)
}

fn id() -> JobId {
    JobId::generate(Timestamp::now()).unwrap()
}

/// Of this process, which is alive.
fn record(state: JobState) -> JobRecord {
    let me = JobProcess::of(std::process::id()).unwrap();
    let mut record = JobRecord::new(id(), me, "snapshot", &["snapshot".into()]);
    record.state = state;
    record
}

/// The stamp of a process that has been there.
fn gone() -> JobProcess {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let stamp = JobProcess::of(child.id()).unwrap();
    child.wait().unwrap();
    stamp
}

fn file(folder: &JobDirectory, id: JobId, ending: &str) -> std::path::PathBuf {
    folder.path().join(format!("{id}.{ending}"))
}

fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(then)
        .unwrap();
}

#[test]
fn readers_see_whole_records_while_they_are_written() {
    let (_outside, folder) = folder();
    let mut written = record(JobState::Running);
    folder.write(&written).unwrap();
    let path = folder.path().to_owned();
    let over = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let folder = JobDirectory::open(&path).unwrap();
                    let mut seen = 0u32;
                    while !over.load(Ordering::Relaxed) {
                        let record = folder.read(written_id(&path)).unwrap();
                        // Each writing says the same thing twice.
                        assert_eq!(record.phase, record.warnings.concat());
                        assert_eq!(folder.jobs().unwrap().len(), 1);
                        seen += 1;
                    }
                    seen
                })
            })
            .collect();
        for n in 0..2000usize {
            written.phase = "x".repeat(n % 900);
            written.warnings = vec![written.phase.clone()];
            let put = match n % 500 {
                0 => JobDirectory::write_durably,
                _ => JobDirectory::write,
            };
            put(&folder, &written).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum::<u32>()
    });
    assert!(
        read > 10,
        "hardly any reading was beside the writing: {read}"
    );
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "temporary files stay: {names:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&file(&folder, written.job, "json")), 0o600);
}

fn written_id(path: &Path) -> JobId {
    let mut names = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let name = names.find_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()));
    name.unwrap().parse().unwrap()
}

#[test]
fn a_folder_that_others_have_a_hand_in_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let error = JobDirectory::make(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.hint().is_some());
        error.to_string()
    };
    let real = outside.path().join("real");
    fs::create_dir(&real).unwrap();
    let link = outside.path().join("link");
    symlink(&real, &link).unwrap();
    assert!(refused(&link).contains("symlink"));
    let file = outside.path().join("file");
    File::create(&file).unwrap();
    JobDirectory::make(&file).unwrap_err();
    for mode in [0o777, 0o720, 0o702] {
        fs::set_permissions(&real, Permissions::from_mode(mode)).unwrap();
        assert!(refused(&real).contains("others"));
    }
    fs::set_permissions(&real, Permissions::from_mode(0o755)).unwrap();
    JobDirectory::make(&real).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&real, Some(65534), None).unwrap();
        assert!(refused(&real).contains("another user"));
    } else {
        crate::support::host::skipped("job: another user's folder", "needs root");
    }
}

#[test]
fn hostile_contents_are_refused_one_by_one() {
    let (outside, folder) = folder();
    let good = record(JobState::Done);
    folder.write(&good).unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, serde_json::to_vec(&good).unwrap()).unwrap();
    let bad: Vec<JobId> = (0..8).map(|_| id()).collect();
    let at = |n: usize| file(&folder, bad[n], "json");
    symlink(&secret, at(0)).unwrap();
    fs::write(at(1), b"{").unwrap();
    // Another job's record under this name.
    fs::copy(&secret, at(2)).unwrap();
    let sparse = File::create(at(3)).unwrap();
    sparse.set_len(1 << 40).unwrap();
    fs::create_dir(at(4)).unwrap();
    nix::unistd::mkfifo(&at(5), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(at(6), "[".repeat(1 << 20)).unwrap();
    fs::write(at(7), b"\xff\xfe\0").unwrap();
    for name in [
        "x.json",
        "latest.json",
        ".json",
        "01K.json",
        "\u{1b}[31m.json",
    ] {
        fs::write(folder.path().join(name), b"{}").unwrap();
    }
    assert_eq!(
        folder.jobs().unwrap().len(),
        9,
        "what is no name of a job is none"
    );
    for (n, id) in bad.iter().enumerate() {
        assert!(folder.look(*id).is_err(), "{n}");
    }
    assert_eq!(folder.look(good.job).unwrap(), good);
    // A log is read through no link, and never as a whole.
    symlink(&secret, file(&folder, good.job, "log")).unwrap();
    assert!(folder.log(good.job, 100).is_err());
    let huge = File::create(file(&folder, bad[1], "log")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let log = folder.log(bad[1], u64::MAX).unwrap();
    assert_eq!(log.tail.len() as u64 + log.skipped, 1 << 40);
    assert!(log.tail.len() as u64 <= stillpoint::job::MAX_LOG_TAIL);
}

#[test]
fn a_job_whose_process_is_gone_is_dead_unless_it_said_how_it_ended() {
    let (_outside, folder) = folder();
    for (state, alive, shown) in [
        (JobState::Running, true, JobState::Running),
        (JobState::Starting, true, JobState::Starting),
        (JobState::Running, false, JobState::Died),
        (JobState::Starting, false, JobState::Died),
        (JobState::Done, false, JobState::Done),
        (JobState::Failed, false, JobState::Failed),
        (JobState::Cancelled, false, JobState::Cancelled),
    ] {
        let mut record = record(state);
        if !alive {
            record.process = gone();
        }
        folder.write(&record).unwrap();
        assert_eq!(
            folder.look(record.job).unwrap().state,
            shown,
            "{state} {alive}"
        );
    }
    // The same number and time in another boot is another process.
    let mut other = record(JobState::Running);
    other.process.boot_id = "00000000-0000-0000-0000-000000000000".into();
    folder.write(&other).unwrap();
    assert_eq!(folder.look(other.job).unwrap().state, JobState::Died);
}

#[test]
fn a_job_is_found_by_the_start_of_its_name() {
    let (_outside, folder) = folder();
    assert_eq!(
        folder.find("latest").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let ids = [1, 1_000_000_000_000, 1_000_000_000_001].map(|ms| {
        let mut record = record(JobState::Done);
        record.job = JobId::generate(Timestamp::from_millisecond(ms).unwrap()).unwrap();
        folder.write(&record).unwrap();
        record.job
    });
    let text = ids.map(|id| id.to_string());
    assert_eq!(folder.find("latest").unwrap(), ids[2]);
    assert_eq!(folder.find(&text[1]).unwrap(), ids[1]);
    assert_eq!(folder.find(&text[0][..9].to_lowercase()).unwrap(), ids[0]);
    assert_eq!(
        folder.find(&text[1][..8]).unwrap_err().kind(),
        ErrorKind::Usage
    );
    assert_eq!(folder.find("").unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(folder.find("../x").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_old_or_too_many_goes_and_the_living_stay() {
    let (_outside, folder) = folder();
    let put = |state: JobState, process: Option<JobProcess>, days: u64| {
        let mut record = record(state);
        record.process = process.unwrap_or(record.process);
        folder.write(&record).unwrap();
        folder.create_log(record.job).unwrap();
        age(&file(&folder, record.job, "json"), days);
        record.job
    };
    let alive = put(JobState::Running, None, 400);
    let dead = put(JobState::Running, Some(gone()), 31);
    let old = put(JobState::Done, None, 31);
    let young = put(JobState::Done, None, 29);
    let odd_old = id();
    let odd_young = id();
    for (odd, days) in [(odd_old, 31), (odd_young, 1)] {
        fs::write(file(&folder, odd, "json"), b"{").unwrap();
        age(&file(&folder, odd, "json"), days);
    }
    // Left by writers that were killed, and a log whose record is gone.
    let half = folder.path().join(format!(".{}.tmp", id()));
    let lonely = file(&folder, id(), "log");
    for path in [&half, &lonely] {
        File::create(path).unwrap();
    }
    folder.prune(PruneOptions::default()).unwrap();
    assert!(half.exists() && lonely.exists(), "they may be in use");
    age(&half, 31);
    age(&lonely, 31);
    folder.prune(PruneOptions::default()).unwrap();
    assert!(!half.exists() && !lonely.exists());
    let there = |id: JobId| file(&folder, id, "json").exists();
    assert!(there(alive) && there(young) && there(odd_young));
    assert!(!there(dead) && !there(old) && !there(odd_old));
    assert!(file(&folder, alive, "log").exists() && !file(&folder, old, "log").exists());
    // Too many: the oldest names go first, whatever their age; the living stay.
    for _ in 0..20 {
        put(JobState::Done, None, 0);
    }
    let few = PruneOptions {
        count: 5,
        ..PruneOptions::default()
    };
    folder.prune(few).unwrap();
    let left = folder.jobs().unwrap();
    assert!(there(alive) && there(odd_young) && !there(young));
    assert!(left.len() <= 7, "{}", left.len());
    assert_eq!(folder.prune(few).unwrap(), 0);
}

#[test]
fn no_exit_code_is_given_but_by_the_one_function_that_knows_which_are_forbidden() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = ["cli", "report", "job", "config", "model"];
    let mut folders: Vec<_> = rooms.iter().map(|room| src.join(room)).collect();
    let mut givers = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let words = [
                "ExitCode::from",
                "ExitCode::SUCCESS",
                "ExitCode::FAILURE",
                "process::exit(",
            ];
            if words.iter().any(|word| text.contains(word)) {
                givers.push(path.file_name().unwrap().to_owned());
            }
        }
    }
    assert_eq!(givers, ["exit.rs"]);
}
