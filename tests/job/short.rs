//! Answers are short enough for the end that runners keep: 12,000 bytes.

use super::detached::Job;
use crate::cli::lab::Lab;
use crate::hooks::Stage;
use jiff::Timestamp;
use serde_json::Value;
use stillpoint::job::{JobDirectory, JobId, JobProcess, JobRecord, JobState};

/// What runners keep, in bytes.
const TAIL: usize = 12_000;

fn short(lab: &Lab, args: &[&str], code: i32) -> Value {
    let run = lab.run(&[args, &["--json"]].concat()).expect(code);
    assert!(run.stdout.len() < TAIL, "{args:?}: {}", run.stdout.len());
    run.json()
}

#[test]
fn what_hooks_say_pushes_nothing_out() {
    let Some(stage) = Stage::new("job: hooks that say much") else {
        return;
    };
    // Each character takes six in a document.
    let much = "head -c 20000 /dev/zero | tr '\\0' '\\001'; echo the end";
    stage.scripts(much, &format!("{much}; exit 5"));
    let document = stage.snapshot(&[]).expect(3);
    assert!(document.stdout.len() < TAIL, "{}", document.stdout.len());
    let args = stage.args(&[]);
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.retain(|arg| *arg != "--json");
    let job = Job::start(&stage.lab, &args);
    let id = job.id.to_string();
    let waited = short(&stage.lab, &["job", "wait", &id], 3);
    let status = short(&stage.lab, &["job", "status", &id], 0);
    let shown = stage.lab.json(&["show", "latest"]);
    assert_eq!(status["result"], waited);
    for hook in ["prescript", "postscript"] {
        let said = |document: &Value| document["hooks"][hook]["output"].as_str().unwrap().len();
        assert!(said(&shown) > 8000 && said(&waited) <= 1010, "{hook}");
        let end = waited["hooks"][hook]["output"].as_str().unwrap();
        assert!(end.starts_with('…') && end.ends_with("the end\n"), "{end}");
    }
}

#[test]
fn a_list_of_many_jobs_says_how_many_more_there_are() {
    let Some(lab) = Lab::new("job: many") else {
        return;
    };
    let folder = JobDirectory::make(&lab.path("jobs")).unwrap();
    let me = JobProcess::of(std::process::id()).unwrap();
    let mut ids = Vec::new();
    for n in 0..1000 {
        let at = Timestamp::from_millisecond(1_700_000_000_000 + n).unwrap();
        let id = JobId::generate(at).unwrap();
        let mut record = JobRecord::new(id, me.clone(), "snapshot", &[]);
        // Of an age that does not let it go: it runs.
        record.state = if n == 7 {
            JobState::Running
        } else {
            JobState::Done
        };
        record.phase = "x".repeat(900);
        folder.write(&record).unwrap();
        ids.push(id.to_string());
    }
    let listed = |document: &Value| -> Vec<String> {
        let jobs = document["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["job"].as_str().unwrap().to_owned())
            .collect()
    };
    let document = short(&lab, &["job", "list"], 0);
    assert_eq!(document["left_out"], 980);
    let mut expected = vec![ids[7].clone()];
    expected.extend_from_slice(&ids[981..]);
    assert_eq!(listed(&document), expected);
    let text = lab.run(&["job", "list"]).expect(0).stdout;
    assert!(text.len() < TAIL, "{}", text.len());
    let verdict = text.lines().last().unwrap();
    assert!(verdict.starts_with("1000 jobs in "), "{verdict}");
    assert!(verdict.contains("980 older"), "{verdict}");
    let all = lab.json(&["job", "list", "--all"]);
    assert_eq!((listed(&all), &all["left_out"]), (ids, &Value::from(0)));
    // Those that cannot be read are counted, and told as shortly.
    for n in 0..300 {
        let at = Timestamp::from_millisecond(1_800_000_000_000 + n).unwrap();
        let id = JobId::generate(at).unwrap();
        std::fs::write(lab.path("jobs").join(format!("{id}.json")), "{").unwrap();
    }
    let document = short(&lab, &["job", "list"], 3);
    assert_eq!(document["unreadable_left_out"], 280);
    let all = lab
        .run(&["job", "list", "--all", "--json"])
        .expect(3)
        .json();
    assert_eq!(all["unreadable"].as_array().unwrap().len(), 300);
}
