//! What lies on disks with LVM between: found by the texts on the disks, and put together in this
//! process. What cannot be is named with its reason.

use super::contents::{DiskContent, DiskContents, UnseenPlace};
use crate::error::{ErrorKind, Result};
use crate::export::{AttachPart, InPlace, LvmPool, PhysicalHome};
use crate::model::Cancel;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How a signature names a physical volume.
const LVM: &str = "LVM member";
/// Most volumes that are looked into.
const MOST_VOLUMES: usize = 256;

/// A volume that lies on disks with something between.
#[derive(Clone)]
pub struct PlannedVolume {
    /// Its name: `GROUP/NAME`.
    pub name: String,
    /// Its bytes.
    pub bytes: Arc<dyn InPlace>,
    /// How its device was called on the host, below `/dev`.
    pub device: String,
    /// On which parts of disks it lies.
    pub below: Vec<AttachPart>,
}

impl fmt::Debug for PlannedVolume {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} on {:?}", self.name, self.below)
    }
}

/// A volume that is not opened, or what may be a part of one.
pub(super) struct RefusedVolume {
    pub(super) name: String,
    /// How its device was called on the host, below `/dev`; none: it is no volume itself.
    pub(super) device: Option<String>,
    pub(super) why: String,
}

/// The volumes of disks.
#[derive(Default)]
pub(super) struct VolumesFound {
    /// How many disks there are: the numbers of volumes follow theirs.
    disks: usize,
    pub(super) volumes: Vec<PlannedVolume>,
    pub(super) refused: Vec<RefusedVolume>,
}

impl VolumesFound {
    /// Takes what belongs to LVM out of what was found on disks, and adds what stands on the
    /// volumes that can be opened.
    ///
    /// # Errors
    /// The vault cannot be read, or `cancel` says so. Damage is told instead.
    pub(super) fn look(
        disks: &[Arc<dyn InPlace>],
        contents: &mut DiskContents,
        cancel: &dyn Cancel,
    ) -> Result<Self> {
        let mut all = Self {
            disks: disks.len(),
            ..Self::default()
        };
        let is_lvm = |one: &mut DiskContent| one.signature.kind == LVM;
        let members: Vec<DiskContent> = contents.found.extract_if(.., is_lvm).collect();
        let mut pool = LvmPool::default();
        for (number, member) in members.iter().enumerate() {
            cancel.check()?;
            let Some(disk) = disks.get(member.disk) else {
                continue;
            };
            let home = PhysicalHome {
                number,
                on: Arc::clone(disk),
                place: member.place,
            };
            match pool.add(home) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    contents.unseen.push(UnseenPlace {
                        disk: member.disk,
                        name: member.name.clone(),
                        place: Some(member.place),
                        why: format!("what LVM has written there cannot be read: {error}"),
                        is_damaged: true,
                    });
                }
                Err(error) if error.kind() == ErrorKind::Format => {
                    all.refuse(&member.name, None, format!("it belongs to LVM: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        for stray in pool
            .strays()
            .iter()
            .filter_map(|number| members.get(*number))
        {
            let why = "it belongs to LVM, and no list of volumes was found that names it";
            all.refuse(&stray.name, None, why.into());
        }
        all.add_volumes(&pool, &members, contents, cancel)?;
        Ok(all)
    }

    fn add_volumes(
        &mut self,
        pool: &LvmPool,
        members: &[DiskContent],
        contents: &mut DiskContents,
        cancel: &dyn Cancel,
    ) -> Result<()> {
        for one in pool.volumes() {
            cancel.check()?;
            let bytes: Arc<dyn InPlace> = match one.volume {
                Ok(_) if self.volumes.len() >= MOST_VOLUMES => {
                    let why = "there are more volumes than are looked into";
                    self.refuse(&one.name, Some(one.device), why.into());
                    continue;
                }
                Ok(volume) => volume,
                Err(why) => {
                    self.refuse(&one.name, Some(one.device), why);
                    continue;
                }
            };
            let below = one.on.iter().filter_map(|number| members.get(*number));
            let below = below.map(|member| AttachPart {
                disk: member.disk,
                place: member.place,
            });
            let number = self.disks + self.volumes.len();
            contents.add_whole(number, &one.name, &bytes)?;
            self.volumes.push(PlannedVolume {
                name: one.name,
                bytes,
                device: one.device,
                below: below.collect(),
            });
        }
        Ok(())
    }

    fn refuse(&mut self, name: &str, device: Option<String>, why: String) {
        self.refused.push(RefusedVolume {
            name: name.to_owned(),
            device,
            why,
        });
    }

    /// The volume that is meant by a number of a disk, if it is none of a disk.
    pub(super) fn get(&self, number: usize) -> Option<&PlannedVolume> {
        self.volumes.get(number.checked_sub(self.disks)?)
    }

    /// The parts of disks that something lies on in the end.
    pub(super) fn below(&self, part: AttachPart) -> Vec<AttachPart> {
        match self.get(part.disk) {
            Some(volume) => volume.below.clone(),
            None => vec![part],
        }
    }

    /// The disks that something lies on in the end.
    pub(super) fn disks_below(&self, number: usize) -> BTreeSet<usize> {
        match self.get(number) {
            Some(volume) => volume.below.iter().map(|part| part.disk).collect(),
            None => BTreeSet::from([number]),
        }
    }

    /// Why what the host had as that device is not opened.
    pub(super) fn why_not(&self, source: &str) -> Option<&str> {
        let name = source.strip_prefix("/dev/")?;
        let mut all = self.refused.iter();
        let found = all.find(|one| one.device.as_deref() == Some(name))?;
        Some(&found.why)
    }
}
