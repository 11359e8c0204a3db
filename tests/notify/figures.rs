//! Figures for node_exporter, read by a parser of the exposition format that follows its
//! description (prometheus.io/docs/instrumenting/exposition_formats) and knows nothing of ours.

use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use stillpoint::notify::{METRICS, NotifyEvent, NotifyNote, PlanFigures, StepFigures, exposition};

/// A value with its name and labels.
pub type Sample = (String, BTreeMap<String, String>);

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(fits)
}

/// Reads the text; each name has one HELP and one TYPE before its samples, which stand together,
/// and no sample comes twice.
pub fn read(text: &str) -> BTreeMap<Sample, f64> {
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut helped, mut typed, mut done) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap();
            assert!(helped.insert(name.to_owned()), "{line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(typed.insert(name.to_owned()), "{line}");
            assert_eq!(kind, "gauge", "{line}");
            continue;
        }
        let at = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(at);
        assert!(is_name(name), "{line}");
        assert!(helped.contains(name) && typed.contains(name), "{line}");
        if current != name {
            assert!(done.insert(name.to_owned()), "{name} stands in two places");
            current = name.to_owned();
        }
        let (labels, value) = labels(rest);
        let value: f64 = value.trim().parse().unwrap();
        assert!(
            samples.insert((name.to_owned(), labels), value).is_none(),
            "{line}"
        );
    }
    assert_eq!(helped, typed);
    assert_eq!(typed, done, "a name without a sample");
    samples
}

fn labels(rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    let Some(mut rest) = rest.strip_prefix('{') else {
        return (found, rest);
    };
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(name), "{rest}");
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("\\{c} is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(
            found.insert(name.to_owned(), value).is_none(),
            "{name} twice"
        );
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (found, rest.strip_prefix('}').unwrap()),
        }
    }
}

/// The value of that name and these labels.
pub fn value(samples: &BTreeMap<Sample, f64>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    samples.get(&(name.to_owned(), labels.collect())).copied()
}

#[test]
fn figures_are_read_by_whoever_knows_the_format() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let plan = |name: &str| PlanFigures {
        name: name.into(),
        state: "new",
        interval: 86_400,
        began: None,
        ended: None,
        exit_code: None,
        last_good: None,
        next: None,
        steps: Vec::new(),
    };
    let daily = PlanFigures {
        state: "failed",
        began: Some(at(0)),
        ended: Some(at(90)),
        exit_code: Some(1),
        last_good: Some(at(-86_400)),
        next: Some(at(3600)),
        steps: vec![StepFigures {
            name: "prune".into(),
            began: at(95),
            exit_code: 3,
        }],
        ..plan("daily")
    };
    let mut note = NotifyNote::new(at(0));
    note.tell("mail", &NotifyEvent::test("h", at(0)));
    note.trouble("mail", "why", at(5));
    note.trouble(METRICS, "why", at(6));
    let odd = plan("a\\b\"c\nd");
    let samples = read(&exposition(&[daily, odd], 2, &note, at(100)));
    let of = |name: &str, labels: &[(&str, &str)]| value(&samples, name, labels);
    let daily = ("plan", "daily");
    assert_eq!(of("stillpoint_plans_unreadable", &[]), Some(2.0));
    assert_eq!(
        of("stillpoint_plan_state", &[daily, ("state", "failed")]),
        Some(1.0)
    );
    assert_eq!(
        of("stillpoint_plan_state", &[daily, ("state", "good")]),
        Some(0.0)
    );
    assert_eq!(
        of("stillpoint_plan_last_try_exit_code", &[daily]),
        Some(1.0)
    );
    assert_eq!(
        of("stillpoint_plan_last_try_duration_seconds", &[daily]),
        Some(90.0)
    );
    let good = of("stillpoint_plan_last_good_timestamp_seconds", &[daily]);
    assert_eq!(good, Some(1_799_913_600.0));
    let step = [daily, ("step", "prune")];
    assert_eq!(of("stillpoint_step_last_try_exit_code", &step), Some(3.0));
    assert_eq!(
        of("stillpoint_notifications_waiting", &[("receiver", "mail")]),
        Some(1.0)
    );
    let since = "stillpoint_notifications_failing_since_timestamp_seconds";
    assert_eq!(of(since, &[("receiver", "mail")]), Some(1_800_000_005.0));
    let odd = ("plan", "a\\b\"c\nd");
    assert_eq!(
        of("stillpoint_plan_state", &[odd, ("state", "new")]),
        Some(1.0)
    );
    assert_eq!(of("stillpoint_plan_last_try_exit_code", &[odd]), None);
    // Where there is nothing, nothing but the heads.
    let none = read(&exposition(&[], 0, &NotifyNote::new(at(0)), at(0)));
    assert_eq!(none.len(), 3, "{none:?}");
}
