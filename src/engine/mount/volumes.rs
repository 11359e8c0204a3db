//! What lies on disks with LVM or md between: found by what these have written on the disks, and
//! put together in this process. What cannot be is named with its reason.

use super::contents::{DiskContent, DiskContents, UnseenPlace};
use crate::error::{ErrorKind, Result};
use crate::export::{ArrayPool, AssembledVolume, AttachPart, InPlace, LvmPool, MemberHome};
use crate::model::Cancel;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How signatures name what belongs to others.
const LVM: &str = "LVM member";
const MD: &str = "RAID member";
/// Most volumes that are looked into.
const MOST_VOLUMES: usize = 256;

/// A volume that lies on disks with something between.
#[derive(Clone)]
pub struct PlannedVolume {
    /// Its name: `GROUP/NAME`, `md/HOST:NAME`.
    pub name: String,
    /// Its bytes.
    pub bytes: Arc<dyn InPlace>,
    /// How its device was called on the host, below `/dev`, if that is known.
    pub device: Option<String>,
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
    /// The disks: the numbers of volumes follow theirs.
    disks: Vec<Arc<dyn InPlace>>,
    pub(super) volumes: Vec<PlannedVolume>,
    pub(super) refused: Vec<RefusedVolume>,
}

impl VolumesFound {
    /// Takes what belongs to md and to LVM out of what was found on disks, and adds what stands on
    /// the volumes that can be opened. LVM may lie on md.
    ///
    /// # Errors
    /// The vault cannot be read, or `cancel` says so. Damage is told instead.
    pub(super) fn look(
        disks: Vec<Arc<dyn InPlace>>,
        contents: &mut DiskContents,
        cancel: &dyn Cancel,
    ) -> Result<Self> {
        let mut all = Self {
            disks,
            ..Self::default()
        };
        let mut arrays = ArrayPool::default();
        let members = all.members(MD, contents, &mut |home| {
            cancel.check()?;
            arrays.add(home)
        })?;
        all.add_volumes(arrays.arrays(), &members, contents, cancel)?;
        let mut pool = LvmPool::default();
        let members = all.members(LVM, contents, &mut |home| {
            cancel.check()?;
            pool.add(home)
        })?;
        let strays = pool.strays();
        for stray in strays.iter().filter_map(|number| members.get(*number)) {
            let why = "it belongs to LVM, and no list of volumes was found that names it";
            all.refuse(&stray.name, None, why.into());
        }
        all.add_volumes(pool.volumes(), &members, contents, cancel)?;
        Ok(all)
    }

    /// Takes what is of that kind out of what was found, and hands it on.
    fn members(
        &mut self,
        kind: &str,
        contents: &mut DiskContents,
        add: &mut dyn FnMut(MemberHome) -> Result<()>,
    ) -> Result<Vec<DiskContent>> {
        let is_meant = |one: &mut DiskContent| one.signature.kind == kind;
        let members: Vec<DiskContent> = contents.found.extract_if(.., is_meant).collect();
        for (number, member) in members.iter().enumerate() {
            let Some(on) = self.bytes(member.disk) else {
                continue;
            };
            let place = member.place;
            match add(MemberHome { number, on, place }) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    contents.unseen.push(UnseenPlace {
                        disk: member.disk,
                        name: member.name.clone(),
                        place: Some(member.place),
                        why: format!("what a {kind} says of itself cannot be read: {error}"),
                        is_damaged: true,
                    });
                }
                Err(error) if error.kind() == ErrorKind::Format => {
                    self.refuse(&member.name, None, format!("it is a {kind}: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(members)
    }

    fn add_volumes(
        &mut self,
        found: Vec<AssembledVolume>,
        members: &[DiskContent],
        contents: &mut DiskContents,
        cancel: &dyn Cancel,
    ) -> Result<()> {
        for one in found {
            cancel.check()?;
            let bytes: Arc<dyn InPlace> = match one.volume {
                Ok(_) if self.volumes.len() >= MOST_VOLUMES => {
                    let why = "there are more volumes than are looked into";
                    self.refuse(&one.name, one.device, why.into());
                    continue;
                }
                Ok(volume) => volume,
                Err(why) => {
                    self.refuse(&one.name, one.device, why);
                    continue;
                }
            };
            let on = one.on.iter().filter_map(|number| members.get(*number));
            let below = on.flat_map(|member| {
                self.below(AttachPart {
                    disk: member.disk,
                    place: member.place,
                })
            });
            let below = below.collect();
            let number = self.disks.len() + self.volumes.len();
            contents.add_whole(number, &one.name, &bytes)?;
            self.volumes.push(PlannedVolume {
                name: one.name,
                bytes,
                device: one.device,
                below,
            });
        }
        Ok(())
    }

    /// What has that number.
    fn bytes(&self, number: usize) -> Option<Arc<dyn InPlace>> {
        let volume = || self.get(number).map(|volume| &volume.bytes);
        self.disks.get(number).or_else(volume).map(Arc::clone)
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
        self.volumes.get(number.checked_sub(self.disks.len())?)
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
