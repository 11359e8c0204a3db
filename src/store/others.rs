//! Whether another run may refer to what a run has put: a copy of its machine has its notes, too.

use super::object_name::ObjectName;
use super::sent::Origin;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::{ObjectKind, SessionRecord};

impl Vault {
    /// Whether the host has a snapshot that was not there when this run began, or another run of
    /// the host is at work. A run that begins after this was asked looks for what is there then.
    pub(super) fn others_may_refer(&self, origin: &Origin) -> Result<bool> {
        // First: a run that has ended before has put its manifest before.
        if self.has_other_session(origin)? {
            return Ok(true);
        }
        let now = self.snapshots_of(&origin.host)?;
        Ok(now.iter().any(|one| !origin.known.contains(&one.id)))
    }

    fn has_other_session(&self, origin: &Origin) -> Result<bool> {
        let own = format!("{}-", origin.run);
        for object in self.store.list_all(&ObjectName::sessions())? {
            let name = object.name.components().last().unwrap_or_default();
            if name.starts_with(&own) {
                continue;
            }
            let most = ObjectKind::Session.most_stored();
            let bytes = match self.store.get(&object.name, most) {
                // It has ended meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                bytes => bytes,
            };
            let record = bytes.and_then(|bytes| SessionRecord::decode(&bytes, self.sealer()));
            // One that cannot be read may be anybody's.
            if record.is_err() || record.is_ok_and(|record| record.host == origin.host) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
