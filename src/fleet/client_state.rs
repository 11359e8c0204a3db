//! How an instance stands by its own word: the document of `client status`, or that it has no
//! program. It is believed as far as it says what to do next; nothing is done to an instance
//! because another one said so.

use super::answer::{HostAnswer, kept};
use super::host::FleetHost;
use super::remote::ABSENT;
use super::steps::HostState;
use jiff::Timestamp;
use serde_json::Value;

/// Most problems of an instance that are kept.
const MOST_PROBLEMS: usize = 5;
/// Most plans that a host has.
const MOST_PLANS: usize = 256;

/// How an instance stands by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToldState {
    pub(super) state: HostState,
    pub(super) version: Option<String>,
    /// Why it has failed, or cannot be understood.
    pub(super) reason: Option<String>,
    /// What to do about that.
    pub(super) remedy: Option<String>,
    /// The time of its last good snapshot.
    pub(super) last_snapshot: Option<String>,
    /// What must be looked at there.
    pub(super) problems: Vec<String>,
    /// Its vault by each name that it has; none: it does not tell.
    vault: Vec<String>,
    plans: Vec<String>,
}

impl ToldState {
    /// What an answer tells.
    pub(super) fn of(answer: &HostAnswer) -> Self {
        if answer.has_line(ABSENT) {
            return Self::plain(HostState::NotInstalled);
        }
        let Some(document) = answer.document() else {
            let mut told = Self::plain(HostState::Unclear);
            told.reason = Some(match answer.said() {
                Some(said) => format!("its answer is no document: {said}"),
                None => "it answered nothing".into(),
            });
            return told;
        };
        let error = &document["error"];
        if error.is_object() {
            let mut told = Self::plain(HostState::Unclear);
            told.reason = text(&error["message"]);
            told.remedy = match error["kind"].as_str() {
                Some("usage") => Some("its stillpoint is too old for this: update it first".into()),
                _ => text(&error["hint"]),
            };
            return told;
        }
        let named = document["state"].as_str();
        let mut told = Self::plain(match named {
            Some("not_installed") => HostState::NotInstalled,
            Some("installed") => HostState::Installed,
            Some("activated") => HostState::Activated,
            Some("failed") => HostState::Failed,
            _ => HostState::Unclear,
        });
        told.version = text(&document["version"]);
        let failure = &document["failure"];
        told.reason = text(&failure["message"]);
        told.remedy = text(&failure["hint"]);
        let time = document["last_snapshot"]["time"].as_str();
        let time = time.and_then(|time| time.parse::<Timestamp>().ok());
        told.last_snapshot = time.map(|time| time.to_string());
        told.problems = texts(&document["problems"]).take(MOST_PROBLEMS).collect();
        let vault = &document["vault"];
        let names = [&vault["name"], &vault["url"], &vault["id"]];
        told.vault = names.into_iter().filter_map(text).collect();
        let plans = document["plans"].as_array().into_iter().flatten();
        let plans = plans.take(MOST_PLANS).map(|plan| &plan["plan"]);
        told.plans = plans.filter_map(text).collect();
        if told.state == HostState::Unclear {
            let named = kept(named.unwrap_or_default());
            told.reason = Some(format!("its document tells no known state: \"{named}\""));
        }
        told
    }

    /// In what it is otherwise than its list says, in words.
    pub(super) fn differs(&self, host: &FleetHost) -> Option<String> {
        if self.state != HostState::Activated {
            return None;
        }
        let is_listed =
            |listed: &String, told: &[String]| listed.is_empty() || told.contains(listed);
        if !is_listed(&host.vault, &self.vault) {
            let told = match self.vault.is_empty() {
                true => "not told".to_owned(),
                false => self.vault.join(", "),
            };
            return Some(format!(
                "its vault is {told}, and the list says {}",
                host.vault
            ));
        }
        if !host.plan.is_empty() && !self.plans.contains(&host.plan) {
            return Some(match self.plans.is_empty() {
                true => format!("it has no plan, and the list says {}", host.plan),
                false => {
                    let told = self.plans.join(", ");
                    format!("its plans are {told}, and the list says {}", host.plan)
                }
            });
        }
        None
    }

    fn plain(state: HostState) -> Self {
        Self {
            state,
            version: None,
            reason: None,
            remedy: None,
            last_snapshot: None,
            problems: Vec::new(),
            vault: Vec::new(),
            plans: Vec::new(),
        }
    }
}

/// What an error says that a command of an instance has printed.
pub(super) fn error_of(answer: &HostAnswer) -> Option<(String, Option<String>)> {
    let document = answer.document()?;
    let error = &document["error"];
    Some((text(&error["message"])?, text(&error["hint"])))
}

fn texts(value: &Value) -> impl Iterator<Item = String> + '_ {
    value.as_array().into_iter().flatten().filter_map(text)
}

fn text(value: &Value) -> Option<String> {
    let text = kept(value.as_str()?);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::process::{CallEnd, CallRun};
    use super::super::runner::FleetRunner;
    use super::super::{answer::Reply, remote};
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn told(body: &str) -> ToldState {
        let (begin, end) = (remote::BEGIN, remote::END);
        let run = CallRun {
            end: CallEnd::Exited(0),
            answer: format!("{begin}\n{body}\n{end}3\n").into_bytes(),
            aside: Vec::new(),
        };
        match Reply::of(run, &FleetRunner::Ssh, None, Duration::ZERO) {
            Reply::Answered(answer) => ToldState::of(&answer),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_instance_is_believed_as_far_as_it_can_be_understood() {
        assert_eq!(told(ABSENT).state, HostState::NotInstalled);
        let failed = json!({"state": "failed", "version": "0.1.0", "problems": [],
            "failure": {"kind": "io", "message": "no vault", "hint": "mount it"},
            "last_snapshot": {"time": "2026-11-30T00:00:00Z"}});
        let failed = told(&failed.to_string());
        assert_eq!(failed.state, HostState::Failed);
        assert_eq!(failed.reason.as_deref(), Some("no vault"));
        assert_eq!(failed.remedy.as_deref(), Some("mount it"));
        assert_eq!(
            failed.last_snapshot.as_deref(),
            Some("2026-11-30T00:00:00Z")
        );
        let old = told(r#"{"error":{"kind":"usage","message":"unrecognized","hint":"x"}}"#);
        assert_eq!(old.state, HostState::Unclear);
        assert!(old.remedy.unwrap().contains("too old"));
        for rubbish in [
            "",
            "hello",
            "[1]",
            "{}",
            r#"{"state":7}"#,
            r#"{"state":"well"}"#,
        ] {
            let told = told(rubbish);
            assert_eq!(told.state, HostState::Unclear, "{rubbish}");
            assert!(told.reason.is_some());
        }
        let many =
            json!({"state": "activated", "problems": vec!["x"; 9000], "version": "v".repeat(9000)});
        let many = told(&many.to_string());
        assert_eq!(many.problems.len(), MOST_PROBLEMS);
        assert!(many.version.unwrap().len() < 500);
    }

    #[test]
    fn another_vault_or_plan_than_the_list_says_is_told() {
        let told = told(
            r#"{"state":"activated","vault":{"name":"main","url":"s3://b/p","id":"ab"},
                "plans":[{"plan":"daily"}]}"#
                .replace('\n', " ")
                .as_str(),
        );
        let differs = |plan: &str, vault: &str| {
            let host = FleetHost::of(2, ["i-1", "", "a", "", plan, vault]).unwrap();
            told.differs(&host)
        };
        for (plan, vault) in [("", ""), ("daily", "main"), ("", "s3://b/p"), ("", "ab")] {
            assert_eq!(differs(plan, vault), None);
        }
        assert!(differs("hourly", "").unwrap().contains("daily"));
        assert!(differs("", "other").unwrap().contains("main"));
    }
}
