//! The commands that a plan stands for, in the words in which anyone could type them.

use crate::engine::{OnHookFailure, RetentionRules};
use crate::model::Bytes;
use crate::plan::{
    DRILL, GC, MIRROR, PRUNE, PlanDisks, PlanDrill, PlanId, PlanRetention, SnapshotPlan, VERIFY,
};
use crate::sys::machine::host_name;

/// The label that each snapshot of a plan bears.
pub const LABEL: &str = "plan";
/// The label that says on which machine it was taken.
pub const MACHINE: &str = "plan-machine";
/// The label that tells the plan from others of its name, before it and after.
pub const ID: &str = "plan-id";

/// What tells whose snapshots are meant, beside the name of the plan.
#[derive(Clone, Copy)]
pub struct PlanLabels<'a> {
    /// The machine; empty: nothing tells it from others.
    pub machine: &'a str,
    /// The plan's ID; a plan that was noted before there were such has none.
    pub id: Option<&'a PlanId>,
}

impl PlanLabels<'_> {
    fn words(self, plan: &SnapshotPlan) -> impl Iterator<Item = String> {
        let name = format!("--tag={LABEL}={}", plan.name);
        let machine = Some(self.machine).filter(|machine| !machine.is_empty());
        let machine = machine.map(|machine| format!("--tag={MACHINE}={machine}"));
        let id = self.id.map(|id| format!("--tag={ID}={id}"));
        [Some(name), machine, id].into_iter().flatten()
    }
}

/// `snapshot`, as the plan has it.
pub fn snapshot(plan: &SnapshotPlan, labels: PlanLabels<'_>) -> Vec<String> {
    let mut words = begin(plan, "snapshot");
    match &plan.disks {
        PlanDisks::AllBut(excluded) => {
            words.push("--all".into());
            words.extend(excluded.iter().map(|disk| format!("--exclude={disk}")));
        }
        PlanDisks::These(_) => {}
    }
    if plan.partial {
        words.push("--partial".into());
    }
    words.push(format!("--level={}", plan.level));
    words.extend(labels.words(plan));
    if let Some(PlanRetention::Days(days)) = plan.retention {
        words.push(format!("--keep={days}d"));
    }
    let hooks = &plan.hooks;
    let scripts = [
        ("prescript", &hooks.prescript),
        ("postscript", &hooks.postscript),
    ];
    for (option, script) in scripts {
        words.extend(
            script
                .iter()
                .map(|path| format!("--{option}={}", path.display())),
        );
    }
    words.extend(
        hooks
            .timeout
            .map(|time| format!("--hook-timeout={}s", time.as_secs())),
    );
    words.extend(hooks.on_failure.map(|choice| {
        let word = match choice {
            OnHookFailure::Filesystem => "filesystem",
            OnHookFailure::Fail => "fail",
        };
        format!("--on-hook-failure={word}")
    }));
    let rate =
        |option: &str, rate: Option<Bytes>| rate.map(|rate| format!("--{option}={}B", rate.0));
    words.extend(rate("limit-read", plan.limit_read));
    words.extend(rate("limit-write", plan.limit_write));
    if let PlanDisks::These(disks) = &plan.disks {
        // Whatever a disk is called, it is no option.
        words.push("--".into());
        words.extend(disks.iter().cloned());
    }
    words
}

/// What a follow-up is of.
#[derive(Clone, Copy)]
pub struct FollowedRun<'a> {
    /// What tells whose snapshots are meant.
    pub labels: PlanLabels<'a>,
    /// The snapshot that was taken last; `None`: none was noted.
    pub snapshot: Option<&'a str>,
}

/// What follows a snapshot, by its name; `None` where the plan has no such thing, or nothing is
/// there that it could be of.
pub fn follow_up(plan: &SnapshotPlan, name: &str, run: FollowedRun<'_>) -> Option<Vec<String>> {
    let labels = run.labels;
    let mut words = begin(plan, name);
    match name {
        PRUNE => words.extend(prune(plan, labels)?),
        MIRROR => words.push(format!("--to={}", plan.mirror.as_ref()?.to)),
        VERIFY => {
            words.push("--all".into());
            words.push(format!("--sample={}", plan.verify.as_ref()?.sample));
        }
        // The very one that was taken: in a vault of many hosts the latest may be another's.
        DRILL => words.extend(drill(plan.drill.as_ref()?, run.snapshot?)),
        GC => plan.gc.map(drop)?,
        _ => return None,
    }
    Some(words)
}

fn begin(plan: &SnapshotPlan, command: &str) -> Vec<String> {
    let vault = plan.vault.iter().map(|vault| format!("--vault={vault}"));
    [command.to_owned()].into_iter().chain(vault).collect()
}

fn drill(drill: &PlanDrill, snapshot: &str) -> Vec<String> {
    let mut words = vec![snapshot.to_owned()];
    if drill.boot {
        words.push("--boot".into());
    }
    let check = drill.check.as_ref();
    words.extend(check.map(|path| format!("--check={}", path.display())));
    let timeout = drill
        .timeout
        .map(|time| format!("--timeout={}s", time.as_secs()));
    words.extend(timeout);
    words.extend(drill.memory.map(|memory| format!("--memory={}B", memory.0)));
    words
}

/// Only what this plan has taken on this machine is judged: others may have the host's name, and a
/// plan of the same name.
fn prune(plan: &SnapshotPlan, labels: PlanLabels<'_>) -> Option<Vec<String>> {
    let mut words = vec![format!("--host={}", host_name())];
    words.extend(labels.words(plan));
    match plan.retention? {
        PlanRetention::Days(days) => words.push(format!("--keep-within={days}d")),
        PlanRetention::Rules(rules) => words.extend(rule_words(&rules)),
    }
    Some(words)
}

fn rule_words(rules: &RetentionRules) -> Vec<String> {
    let counts = [
        ("last", rules.last),
        ("hourly", rules.hourly),
        ("daily", rules.daily),
        ("weekly", rules.weekly),
        ("monthly", rules.monthly),
        ("yearly", rules.yearly),
    ];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let words = counts.map(|(rule, count)| format!("--keep-{rule}={count}"));
    let within = rules
        .within
        .map(|within| format!("--keep-within={}s", within.as_secs()));
    words.chain(within).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::args::CommandLine;
    use super::*;
    use crate::plan::PlanEdit;
    use clap::Parser;
    use jiff::Timestamp;
    use std::path::Path;

    fn plan(set: impl FnOnce(&mut PlanEdit)) -> SnapshotPlan {
        let mut edit = PlanEdit::new("daily".parse().unwrap(), Path::new("/x/daily.toml"));
        edit.set_text("start", "2026-12-01T02:30:00");
        edit.set_text("every", "1d");
        set(&mut edit);
        edit.plan(Timestamp::now()).unwrap()
    }

    /// Those of a plan that was noted before there were IDs.
    fn old() -> PlanLabels<'static> {
        PlanLabels {
            machine: "m",
            id: None,
        }
    }

    fn new(id: &PlanId) -> PlanLabels<'_> {
        PlanLabels {
            machine: "m",
            id: Some(id),
        }
    }

    fn parsed(words: &[String]) {
        let all = ["stillpoint"]
            .into_iter()
            .chain(words.iter().map(String::as_str));
        CommandLine::try_parse_from(all).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }

    #[test]
    fn a_plan_is_what_anyone_could_type() {
        let least = plan(|_| ());
        let words = snapshot(&least, old());
        assert_eq!(
            words.join(" "),
            "snapshot --all --level=filesystem --tag=plan=daily --tag=plan-machine=m"
        );
        parsed(&words);
        assert!(least.follow_ups().is_empty());

        let id: PlanId = "i1".parse().unwrap();
        let most = plan(|edit| {
            edit.set_texts("disks", &["-x".into(), "vda".into()]);
            edit.set_flag("partial", true);
            edit.set_text("vault", "s3://b/p");
            edit.set_text("level", "application");
            edit.set_text("hooks.prescript", "/a b");
            edit.set_text("hooks.postscript", "/c");
            edit.set_text("hooks.timeout", "1m");
            edit.set_text("hooks.on_failure", "fail");
            edit.set_text("limits.read", "1MiB/s");
            edit.set_text("limits.write", "2MiB/s");
            edit.set_text("retention", "30d");
            edit.set_text("mirror.to", "second");
            edit.set_text("verify.sample", "5%");
            edit.set_text("verify.every", "1w");
            edit.set_text("drill.every", "1w");
            edit.set_text("gc.every", "1d");
        });
        let words = snapshot(&most, new(&id));
        assert_eq!(
            words.join(" "),
            "snapshot --vault=s3://b/p --partial --level=application --tag=plan=daily \
             --tag=plan-machine=m --tag=plan-id=i1 --keep=30d \
             --prescript=/a b --postscript=/c --hook-timeout=60s --on-hook-failure=fail \
             --limit-read=1048576B --limit-write=2097152B -- -x vda"
        );
        parsed(&words);
        let names: Vec<&str> = most.follow_ups().iter().map(|one| one.name).collect();
        assert_eq!(names, ["prune", "mirror", "verify", "drill", "gc"]);
        let run = FollowedRun {
            labels: new(&id),
            snapshot: Some("01K0000000000000000000000X"),
        };
        for name in names {
            let words = follow_up(&most, name, run).unwrap();
            assert_eq!(words[1], "--vault=s3://b/p");
            parsed(&words);
            assert_eq!(follow_up(&least, name, run), None);
        }
        let prune = follow_up(&most, PRUNE, run).unwrap().join(" ");
        assert!(
            prune.ends_with(
                " --tag=plan=daily --tag=plan-machine=m --tag=plan-id=i1 --keep-within=30d"
            ),
            "{prune}"
        );
        assert!(prune.contains("--host="), "{prune}");
    }

    #[test]
    fn a_drill_is_of_the_snapshot_that_was_taken() {
        let drilled = plan(|edit| {
            edit.set_text("drill.every", "1w");
            edit.set_flag("drill.boot", true);
            edit.set_text("drill.check", "/a b");
            edit.set_text("drill.timeout", "1h");
            edit.set_text("drill.memory", "2GiB");
        });
        let run = FollowedRun {
            labels: old(),
            snapshot: Some("01K0000000000000000000000X"),
        };
        assert_eq!(
            follow_up(&drilled, DRILL, run).unwrap().join(" "),
            "drill 01K0000000000000000000000X --boot --check=/a b --timeout=3600s \
             --memory=2147483648B"
        );
        let unknown = FollowedRun {
            snapshot: None,
            ..run
        };
        assert_eq!(follow_up(&drilled, DRILL, unknown), None);
    }

    #[test]
    fn rules_are_those_of_prune() {
        let rules = plan(|edit| {
            for (key, number) in [("last", 1), ("hourly", 2), ("daily", 3), ("weekly", 4)] {
                edit.set_number(&format!("retention.{key}"), number);
            }
            edit.set_text("retention.within", "2d");
        });
        assert!(
            !snapshot(&rules, old())
                .iter()
                .any(|word| word.starts_with("--keep"))
        );
        let run = FollowedRun {
            labels: old(),
            snapshot: None,
        };
        let words = follow_up(&rules, PRUNE, run).unwrap();
        parsed(&words);
        let rules = "--keep-last=1 --keep-hourly=2 --keep-daily=3 --keep-weekly=4 \
                     --keep-within=172800s";
        assert!(words.join(" ").ends_with(rules), "{words:?}");
    }
}
