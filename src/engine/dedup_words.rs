//! Whether `vault.json` tells runs what it told those before: across what equal blocks are stored
//! once. Nothing seals it, so whoever may write can change it. Manifests say what their runs were
//! told, and of an encrypted vault they are sealed. It changes what new snapshots take, and no
//! snapshot: so it is told, and nothing is refused.

use crate::format::BlockDedup;
use crate::model::SnapshotId;

/// Snapshots whose runs were told something else than `vault.json` says now.
#[derive(Clone, Copy, Debug)]
pub struct DedupWords {
    /// What it says now.
    pub now: BlockDedup,
    /// How many runs were told something else.
    pub others: usize,
    /// The newest snapshot of these.
    pub newest_other: Option<SnapshotId>,
    /// The newest snapshot whose run was told the same.
    newest_same: Option<SnapshotId>,
}

impl DedupWords {
    /// No snapshot was looked at; `vault.json` says this.
    pub(super) fn of(now: BlockDedup) -> Self {
        Self {
            now,
            others: 0,
            newest_other: None,
            newest_same: None,
        }
    }

    /// Adds a snapshot; `None`: an early run did not say what it was told.
    pub(super) fn note(&mut self, snapshot: SnapshotId, told: Option<BlockDedup>) {
        let Some(told) = told else { return };
        let is_other = told != self.now;
        self.others += usize::from(is_other);
        let newest = match is_other {
            true => &mut self.newest_other,
            false => &mut self.newest_same,
        };
        *newest = (*newest).max(Some(snapshot));
    }

    /// Whether no snapshot was taken since it says this.
    pub fn is_new(&self) -> bool {
        self.newest_other > self.newest_same
    }

    /// That it was changed, in words; `None`: nobody says so.
    pub fn told(&self) -> Option<String> {
        let newest = self.newest_other?;
        let before = match self.now {
            BlockDedup::Disk => BlockDedup::Vault,
            BlockDedup::Vault => BlockDedup::Disk,
        };
        let which = match self.others {
            1 => format!("snapshot {newest} was taken"),
            many => format!("{many} of the snapshots were taken, {newest} last"),
        };
        Some(format!(
            "vault.json says dedup `{}`, and said `{before}` when {which}: somebody has changed \
             it, which stillpoint never does. No snapshot loses a block by it; what new ones take \
             is more, or less. If it was not you, somebody else can write to the vault",
            self.now
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_and_whether_anything_was_taken_since() {
        let id = SnapshotId::generate;
        let (disk, vault) = (Some(BlockDedup::Disk), Some(BlockDedup::Vault));
        let mut words = DedupWords::of(BlockDedup::Disk);
        words.note(id(5000), None);
        words.note(id(2000), disk);
        assert!(words.told().is_none() && !words.is_new());
        let other = id(3000);
        words.note(other, vault);
        words.note(id(1000), vault);
        assert!(words.is_new());
        let told = words.told().unwrap();
        assert!(
            told.contains("says dedup `disk`, and said `vault`"),
            "{told}"
        );
        assert!(told.contains(&format!("2 of the snapshots were taken, {other} last")));
        words.note(id(4000), disk);
        assert!(!words.is_new() && words.told().is_some());
    }
}
