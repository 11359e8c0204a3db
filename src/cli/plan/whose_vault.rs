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
}

/// The vault that a command of the plan goes to.
pub fn vault_of(plan: &SnapshotPlan, common: &Common) -> Result<NotedVault> {
    let given = plan.vault.as_deref().or(common.vault.as_deref());
    let place = context::vault_named(common, given)?;
    let (info, _) = look_at_keys(&place)?;
    Ok(NotedVault {
        named: plan.vault.clone(),
        id: info.id.to_string(),
        place: place.reached(),
    })
}

/// Whose the vault `found` is, by what is noted of the runs before.
pub fn whose(noted: Option<&NotedVault>, found: &NotedVault) -> VaultCase {
    match noted {
        Some(noted) if noted.id == found.id && noted.place == found.place => VaultCase::Own,
        noted if found.named.is_some() && noted.is_none_or(|noted| noted.named != found.named) => {
            VaultCase::Own
        }
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

    #[test]
    fn a_vault_is_the_plans_by_its_file_or_by_the_runs_before() {
        let file = vault(Some("main"), "1", "/a");
        let none = vault(None, "1", "/a");
        assert_eq!(whose(None, &file), VaultCase::Own);
        assert_eq!(whose(None, &none), VaultCase::First);
        for noted in [&file, &none] {
            for found in [&file, &none] {
                assert_eq!(whose(Some(noted), found), VaultCase::Own);
            }
        }
        // The file names another one: its owner has said so.
        let moved = vault(Some("second"), "1", "/b");
        assert_eq!(whose(Some(&file), &moved), VaultCase::Own);
        assert_eq!(whose(Some(&none), &moved), VaultCase::Own);
    }

    #[test]
    fn another_vault_under_one_name_and_a_second_place_are_not_the_plans() {
        for (noted, found) in [
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
            let VaultCase::Other(why) = whose(Some(&noted), &found) else {
                panic!("{noted:?} {found:?}");
            };
            assert!(why.contains(&format!("{} (vault {})", found.place, found.id)));
        }
    }
}
