//! What a bucket says of itself, and what that costs a vault in it.

use super::found::{RowState, StoreCheck};
use super::objects::passed;
use super::trial::Trial;
use crate::error::Result;
use crate::model::counted;
use crate::store::object_store::BucketLock;
use crate::store::s3::{BucketRule, S3Store, Said, Versioning};
use std::sync::Arc;

/// Classes whose objects cannot be got at once.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];
/// What runs put and nobody needs for long; rules may delete it.
const PASSING: [&str; 2] = ["sessions/", "check/"];

/// What a check has to heed of a bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BucketTraits {
    /// What is deleted stays as a version.
    pub(super) versions_stay: YesNoUnknown,
    /// What is put cannot be deleted for some time.
    pub(super) is_locked: YesNoUnknown,
}

/// Whether something is so, as far as a store says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum YesNoUnknown {
    /// It says so.
    Yes,
    /// It says that it is not, or does not know such a thing.
    No,
    /// It may not be asked, or gave no answer.
    #[default]
    Unknown,
}

impl YesNoUnknown {
    /// What it means that a question got no answer of use.
    fn unanswered<T>(said: &Result<Said<T>>) -> Self {
        match said {
            Ok(Said::NotKnown(_)) => Self::No,
            _ => Self::Unknown,
        }
    }
}

/// What is asked of the bucket itself.
pub(super) fn ask_bucket(
    trial: &Trial,
    found: &mut StoreCheck,
    store: &Arc<S3Store>,
    prefix: &str,
) -> Result<BucketTraits> {
    let mut rows = BucketRows { found, prefix };
    let asked = Arc::clone(store);
    let rules = passed(trial.ask(move |_| asked.rules()))?;
    let told = match &rules {
        Ok(Said::Told(rules)) => Some(rules.clone()),
        _ => None,
    };
    let asked = Arc::clone(store);
    let versioning = passed(trial.ask(move |_| asked.versioning()))?;
    let versions_stay = rows.versioning(versioning, told.as_deref());
    let asked = Arc::clone(store);
    let lock = passed(trial.ask(move |_| asked.object_lock()))?;
    let is_locked = rows.lock(lock);
    if let Some(rules) = rows.told("rules", rules) {
        rows.rules(&rules);
    }
    Ok(BucketTraits {
        versions_stay,
        is_locked,
    })
}

/// What is found of a bucket, for a vault below a prefix.
struct BucketRows<'a> {
    found: &'a mut StoreCheck,
    prefix: &'a str,
}

impl BucketRows<'_> {
    /// The answer, or a row that says why there is none.
    fn told<T>(&mut self, name: &'static str, said: Result<Said<T>>) -> Option<T> {
        let why = match said {
            Ok(Said::Told(told)) => return Some(told),
            Ok(Said::MayNotBeAsked) => "these credentials may not ask".to_owned(),
            Ok(Said::NotKnown(why)) => format!("the store does not know the question ({why})"),
            Err(error) => error.to_string(),
        };
        self.found.row(name, RowState::Unknown, why);
        None
    }

    fn versioning(
        &mut self,
        said: Result<Said<Versioning>>,
        rules: Option<&[BucketRule]>,
    ) -> YesNoUnknown {
        // A store that does not know the question may stand before one that keeps them.
        let Some(told) = self.told("versioning", said) else {
            return YesNoUnknown::Unknown;
        };
        if told != Versioning::On {
            self.found
                .good("versioning", "off: what is deleted is gone");
            return match told {
                Versioning::Off => YesNoUnknown::Yes,
                _ => YesNoUnknown::No,
            };
        }
        let rules = rules.unwrap_or_default().iter();
        let all = rules.filter(|rule| rule.covers(self.prefix));
        match all.filter_map(|rule| rule.versions_expire).min() {
            Some(days) => {
                let what = format!(
                    "on: what is deleted stays for {}, and is paid for",
                    counted(days, "day")
                );
                self.found.good("versioning", what);
            }
            None => {
                let what = "on, and no rule is known that ends it: what is deleted stays for \
                            ever, each minute's beat of a run at work among it, and is paid for";
                self.found.row("versioning", RowState::Warning, what);
                self.found.remedy(
                    "have the bucket delete versions that are not current after some days \
                     (NoncurrentVersionExpiration)",
                );
            }
        }
        YesNoUnknown::Yes
    }

    fn lock(&mut self, said: Result<Said<BucketLock>>) -> YesNoUnknown {
        let unanswered = YesNoUnknown::unanswered(&said);
        let rule = self.found.lock;
        if let (Some(rule), Ok(Said::NotKnown(_) | Said::Told(BucketLock::Never))) = (rule, &said) {
            let what = format!(
                "off, and the vault there has what snapshots need locked ({rule}): nothing can be \
                 put"
            );
            self.found.row("object_lock", RowState::Bad, what);
            self.found.remedy(
                "switch object lock on for the bucket, or make one with it and mirror the vault \
                 there",
            );
            return YesNoUnknown::No;
        }
        match self.told("object_lock", said) {
            None => return unanswered,
            Some(BucketLock::Never) => self.found.good("object_lock", "off"),
            Some(BucketLock::Possible) => {
                let what = match rule {
                    None => {
                        "possible, and nothing is locked by default: init --lock uses it".into()
                    }
                    Some(rule) => {
                        format!(
                            "possible, and runs lock what they put ({rule}); how it is locked \
                             `lock --dry-run` says"
                        )
                    }
                };
                self.found.good("object_lock", what);
            }
            Some(BucketLock::ByDefault(time)) => {
                let what = format!(
                    "each object is locked by default ({time}): what failed runs put and the \
                     beats of runs stay for so long"
                );
                self.found.row("object_lock", RowState::Warning, what);
                self.found.remedy(
                    "keep the vault in a bucket without default retention; what check has put \
                     here stays as long",
                );
                return YesNoUnknown::Yes;
            }
        }
        YesNoUnknown::No
    }

    fn rules(&mut self, rules: &[BucketRule]) {
        let mut harmless = true;
        for rule in rules.iter().filter(|rule| rule.meets(self.prefix)) {
            let id = &rule.id;
            if let Some(when) = &rule.expires {
                harmless = false;
                let what = format!("the rule {id:?} deletes objects of a vault {when}");
                self.found.row("rules", RowState::Bad, what);
                self.found
                    .remedy("take the rule away, or name a prefix that it leaves alone");
            }
            let moves = rule.moves.iter();
            for class in moves.filter(|class| ARCHIVES.contains(&class.as_str())) {
                harmless = false;
                let what = format!("the rule {id:?} moves objects to {class}");
                self.found.row("rules", RowState::Bad, what);
                self.found
                    .remedy("what is there cannot be read at once: restores and incrementals fail");
            }
        }
        if harmless {
            self.found
                .good("rules", "none deletes or archives what a vault needs");
        }
    }
}

impl BucketRule {
    /// Whether it applies to objects of a vault below a prefix that matter.
    fn meets(&self, vault: &str) -> bool {
        let below = below(vault);
        let passing = |rest: &str| PASSING.iter().any(|folder| rest.starts_with(folder));
        !self.labelled
            && match self.prefix.strip_prefix(below.as_str()) {
                Some(rest) => !passing(rest),
                None => below.starts_with(&self.prefix),
            }
    }

    /// Whether it applies to all objects of a vault below a prefix.
    fn covers(&self, vault: &str) -> bool {
        !self.labelled && below(vault).starts_with(&self.prefix)
    }
}

/// What the keys of a vault begin with.
fn below(prefix: &str) -> String {
    match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_matters_where_it_meets_what_a_vault_needs() {
        let rule = |prefix: &str| BucketRule {
            prefix: prefix.into(),
            ..BucketRule::default()
        };
        for (prefix, meets, covers) in [
            ("", true, true),
            ("a/", true, true),
            ("a/vault", true, true),
            ("a/vault/", true, true),
            ("a/vault/segments/", true, false),
            ("a/vault/s", true, false),
            ("a/vault/sessions/", false, false),
            ("a/vault/check/", false, false),
            ("a/vault2/", false, false),
            ("b", false, false),
        ] {
            let rule = rule(prefix);
            assert_eq!(rule.meets("a/vault"), meets, "{prefix}");
            assert_eq!(rule.covers("a/vault"), covers, "{prefix}");
        }
        let all = rule("");
        assert!(all.meets("") && all.covers(""));
        let labelled = BucketRule {
            labelled: true,
            ..all
        };
        assert!(!labelled.meets("a") && !labelled.covers("a"));
    }
}
