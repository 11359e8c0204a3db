//! Names of objects in a store: short relative paths that can leave no store.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, DrillName, FooterCopiesRef};
use crate::model::{ObjectId, SnapshotId};
use std::fmt;

/// A name: components of letters, digits, `.`, `_`, `-` and `%`, none starting with a dot, with `/`
/// between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

const MAX_COMPONENT: usize = 128;

impl ObjectName {
    /// Checks a name that comes from outside.
    pub fn parse(text: &str) -> Result<Self> {
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= MAX_COMPONENT
                && !part.starts_with('.')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-%".contains(&b))
        };
        if text.split('/').count() <= 4 && text.split('/').all(good) {
            Ok(Self(text.into()))
        } else {
            Err(Error::new(
                ErrorKind::Damaged,
                format!("{text:?} cannot be an object's name"),
            ))
        }
    }

    /// `vault.json`.
    pub fn vault_info() -> Self {
        Self("vault.json".into())
    }

    /// `segments`.
    pub fn segments() -> Self {
        Self("segments".into())
    }

    /// `segments/ab/<id>`.
    pub fn segment(id: ObjectId) -> Self {
        let text = id.to_string();
        Self(format!("segments/{}/{text}", &text[..2]))
    }

    /// `segments/ab`: where this segment and all with the same first byte are.
    pub fn segments_beside(id: ObjectId) -> Self {
        Self(format!("segments/{}", &id.to_string()[..2]))
    }

    /// `index`.
    pub fn indexes() -> Self {
        Self("index".into())
    }

    /// `index/<id>`.
    pub fn index(id: ObjectId) -> Self {
        Self(format!("index/{id}"))
    }

    /// `snapshots`.
    pub fn snapshots() -> Self {
        Self("snapshots".into())
    }

    /// `snapshots/<host>`.
    pub fn host(host: &str) -> Self {
        Self(format!("snapshots/{}", escape(host)))
    }

    /// `snapshots/<host>/<id>`.
    pub fn manifest(host: &str, id: SnapshotId) -> Self {
        Self(format!("snapshots/{}/{id}", escape(host)))
    }

    /// `sessions/<run>-<beat>`.
    pub fn session(run: SnapshotId, beat: u32) -> Self {
        Self(format!("sessions/{run}-{beat:08}"))
    }

    /// Whether it is one of these.
    pub(super) fn is_session(&self) -> bool {
        self.components().next() == Some("sessions")
    }

    /// Whether a snapshot needs what stands under such a name: all that is ever locked. What comes
    /// and goes beside it is not.
    pub(super) fn is_needed(&self) -> bool {
        const NEEDED: [&str; 6] = [
            "vault.json",
            "segments",
            "index",
            "footers",
            "snapshots",
            "keys",
        ];
        self.components()
            .next()
            .is_some_and(|first| NEEDED.contains(&first))
    }

    /// Whether it is a manifest's.
    pub(super) fn is_manifest(&self) -> bool {
        self.components().next() == Some("snapshots")
    }

    /// `sessions`.
    pub fn sessions() -> Self {
        Self("sessions".into())
    }

    /// `condemned`.
    pub fn condemned() -> Self {
        Self("condemned".into())
    }

    /// `condemned/<plan>-<n>`.
    pub fn plan_part(plan: SnapshotId, number: u32) -> Self {
        Self::part_of("condemned", plan, number)
    }

    /// `footers`.
    pub fn all_footers() -> Self {
        Self("footers".into())
    }

    /// `damaged`.
    pub fn damaged() -> Self {
        Self("damaged".into())
    }

    /// `damaged/<list>`.
    pub fn damage(list: SnapshotId) -> Self {
        Self(format!("damaged/{list}"))
    }

    /// `keys`.
    pub fn keys() -> Self {
        Self("keys".into())
    }

    /// `keys/<key>`.
    pub fn key(id: SnapshotId) -> Self {
        Self(format!("keys/{id}"))
    }

    /// `keeps`.
    pub fn keeps() -> Self {
        Self("keeps".into())
    }

    /// `keeps/<snapshot>`.
    pub fn keeps_of(snapshot: SnapshotId) -> Self {
        Self(format!("keeps/{snapshot}"))
    }

    /// `keeps/<snapshot>/<keep>`.
    pub fn keep(snapshot: SnapshotId, keep: SnapshotId) -> Self {
        Self(format!("keeps/{snapshot}/{keep}"))
    }

    /// `drills`.
    pub fn drills() -> Self {
        Self("drills".into())
    }

    /// `drills/<snapshot>`.
    pub fn drills_of(snapshot: SnapshotId) -> Self {
        Self(format!("drills/{snapshot}"))
    }

    /// `drills/<snapshot>/<drill>`.
    pub fn drill(name: DrillName) -> Self {
        let DrillName { snapshot, drill } = name;
        Self(format!("drills/{snapshot}/{drill}"))
    }

    /// `verified`.
    pub fn verified() -> Self {
        Self("verified".into())
    }

    /// `verified/<record>`.
    pub fn sample_record(record: SnapshotId) -> Self {
        Self(format!("verified/{record}"))
    }

    /// `check`.
    pub fn checks() -> Self {
        Self("check".into())
    }

    /// `check/<run>-<n>`.
    pub fn check(run: SnapshotId, number: u32) -> Self {
        Self(format!("check/{run}-{number:08}"))
    }

    /// `footers/<run>-<part>`.
    pub fn footers(copies: FooterCopiesRef) -> Self {
        let FooterCopiesRef { run, part, .. } = copies;
        Self::part_of("footers", run, part)
    }

    /// What a collector may condemn.
    pub fn of_condemned(object: Condemned) -> Self {
        match object {
            Condemned::Segment(id) => Self::segment(id),
            Condemned::Index(id) => Self::index(id),
            Condemned::Copies { run, part } => Self::part_of("footers", run, part),
            Condemned::Keep { snapshot, keep } => Self::keep(snapshot, keep),
        }
    }

    fn part_of(folder: &str, run: SnapshotId, number: u32) -> Self {
        Self(format!("{folder}/{run}-{number:08}"))
    }

    /// The run and the number that the last component says, `<ULID>-<n>`.
    pub(super) fn run_and_number(&self) -> Option<(SnapshotId, u32)> {
        let (run, number) = self.components().last()?.rsplit_once('-')?;
        let run: SnapshotId = run.parse().ok()?;
        let is_number = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some((run, number.parse().ok()?))
    }

    /// `footers`.
    pub fn copies_of_footers() -> Self {
        Self("footers".into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it is `prefix` or below it.
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0
            .strip_prefix(&prefix.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// This name with one component more, checked.
    pub fn join(&self, component: &str) -> Result<Self> {
        Self::parse(&format!("{}/{component}", self.0))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host's name as a component: bytes that may not stand in one are written `%xx`; one that gets
/// too long ends in a hash of the whole.
fn escape(host: &str) -> String {
    let mut text = String::new();
    for (at, byte) in host.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && at > 0);
        if plain {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    if text.is_empty() {
        text.push('%');
    }
    if text.len() > MAX_COMPONENT {
        let hash = blake3::hash(host.as_bytes()).to_hex();
        text.truncate(MAX_COMPONENT - 33);
        text = format!("{text}%{}", &hash[..32]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_leave_the_vault_are_refused() {
        for bad in [
            "",
            "/",
            "a//b",
            "../x",
            "a/../b",
            ".tmp",
            "a/.b",
            "a b",
            "a\0",
            "ä",
            "a/b/c/d/e",
        ] {
            assert!(ObjectName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ObjectName::parse("segments/ab/00ff").is_ok());
    }

    proptest! {
        #[test]
        fn any_hosts_name_gives_a_good_name(a in ".{0,200}", b in ".{0,200}") {
            let (one, two) = (ObjectName::host(&a), ObjectName::host(&b));
            prop_assert!(ObjectName::parse(one.as_str()).is_ok(), "{}", one);
            prop_assert_eq!(one == two, a == b);
        }
    }
}
