//! Which vault a plan's run has gone to, and whether it is the plan's: a flag, the environment or
//! the configuration may lead to another one, of which a plan's rules must delete nothing. A second
//! place has the vault's own ID and the plan's own snapshots, so where it is counts, too.

use super::super::args::Common;
use super::super::context;
use crate::error::Result;
use crate::plan::{NotedVault, SnapshotPlan};
use crate::store::look_at_keys;

/// Whose the vault of a run is.
#[derive(Debug, PartialEq, Eq)]
pub enum VaultCase {
    /// The one of the runs before, or the one that the plan's file names now.
    Own,
    /// Nothing says that it is the plan's, and nothing says that it is not.
    First,
    /// Another one than that of the runs before; why.
    Other(String),
    /// The environment alone names it: whoever ran the plan may have meant another one.
    ByEnvironment,
}

/// The vault that a run has gone to.
#[derive(Clone, Debug)]
pub struct FoundVault {
    pub vault: NotedVault,
    /// Whether the environment alone leads there, and neither the plan's file nor the
    /// configuration.
    pub by_environment: bool,
}

/// The vault that a command of the plan goes to.
pub fn vault_of(plan: &SnapshotPlan, common: &Common) -> Result<FoundVault> {
    let given = plan.vault.as_deref().or(common.vault.as_deref());
    let place = context::vault_named(common, given)?;
    let (info, _) = look_at_keys(&place)?;
    let place = place.reached();
    let by_environment = common.vault.as_deref().filter(|vault| !vault.is_empty());
    let is_usual = || {
        // Without what the environment says.
        let usual = context::vault_named(common, None);
        usual.is_ok_and(|usual| usual.reached() == place)
    };
    Ok(FoundVault {
        by_environment: plan.vault.is_none() && by_environment.is_some() && !is_usual(),
        vault: NotedVault {
            named: plan.vault.clone(),
            id: info.id.to_string(),
            place,
        },
    })
}

/// Whose the vault `found` is, by what is noted of the runs before.
///
/// Where nothing is noted, the file's word for it is not enough: another vault may be mounted there
/// by now, and only what is noted from run to run would tell.
pub fn whose(noted: Option<&NotedVault>, found: &FoundVault) -> VaultCase {
    let by_environment = found.by_environment;
    let found = &found.vault;
    match noted {
        Some(noted) if noted.id == found.id && noted.place == found.place => VaultCase::Own,
        Some(noted) if found.named.is_some() && noted.named != found.named => VaultCase::Own,
        None if by_environment => VaultCase::ByEnvironment,
        None => VaultCase::First,
        Some(noted) => VaultCase::Other(format!(
            "this run has gone to {} (vault {}), and those before to {} (vault {})",
            found.place, found.id, noted.place, noted.id
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(named: Option<&str>, id: &str, place: &str) -> NotedVault {
        NotedVault {
            named: named.map(Into::into),
            id: id.into(),
            place: place.into(),
        }
    }

    fn found(vault: &NotedVault) -> FoundVault {
        FoundVault {
            vault: vault.clone(),
            by_environment: false,
        }
    }

    #[test]
    fn a_vault_is_the_plans_by_its_file_or_by_the_runs_before() {
        let file = vault(Some("main"), "1", "/a");
        let none = vault(None, "1", "/a");
        // Notes are lost, and something else may be mounted there.
        assert_eq!(whose(None, &found(&file)), VaultCase::First);
        assert_eq!(whose(None, &found(&none)), VaultCase::First);
        for noted in [&file, &none] {
            for now in [&file, &none] {
                assert_eq!(whose(Some(noted), &found(now)), VaultCase::Own);
            }
        }
        // The file names another one: its owner has said so.
        let moved = found(&vault(Some("second"), "1", "/b"));
        assert_eq!(whose(Some(&file), &moved), VaultCase::Own);
        assert_eq!(whose(Some(&none), &moved), VaultCase::Own);
    }

    #[test]
    fn what_the_environment_alone_names_never_becomes_the_plans() {
        let there = vault(None, "1", "/a");
        let by_environment = FoundVault {
            vault: there.clone(),
            by_environment: true,
        };
        assert_eq!(whose(None, &by_environment), VaultCase::ByEnvironment);
        // It is the one of the runs before.
        assert_eq!(whose(Some(&there), &by_environment), VaultCase::Own);
        let other = vault(None, "2", "/b");
        let case = whose(Some(&other), &by_environment);
        assert!(matches!(case, VaultCase::Other(_)), "{case:?}");
    }

    #[test]
    fn another_vault_under_one_name_and_a_second_place_are_not_the_plans() {
        for (noted, now) in [
            // The environment, or the configuration's default.
            (vault(None, "1", "/a"), vault(None, "2", "/b")),
            // A mirror.
            (vault(None, "1", "/a"), vault(None, "1", "/b")),
            // Another vault in its place.
            (vault(None, "1", "/a"), vault(None, "2", "/a")),
            // A name of the configuration that leads elsewhere now.
            (vault(Some("m"), "1", "/a"), vault(Some("m"), "2", "/b")),
            // A file that names none any more.
            (vault(Some("m"), "1", "/a"), vault(None, "1", "/b")),
        ] {
            let VaultCase::Other(why) = whose(Some(&noted), &found(&now)) else {
                panic!("{noted:?} {now:?}");
            };
            assert!(why.contains(&format!("{} (vault {})", now.place, now.id)));
        }
    }
}
