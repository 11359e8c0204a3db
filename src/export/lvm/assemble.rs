//! Physical volumes that were found → the logical ones that lie on them, each readable or with the
//! reason why it is not. Of several texts of one group the newest counts.

use super::group::{GroupMember, LogicalVolume, VolumeGroup};
use super::label::PhysicalLabel;
use crate::error::{Error, ErrorKind, Result};
use crate::export::mapped::{AssembledVolume, MappedArea, MappedPart, MappedVolume, MemberHome};
use crate::model::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Most groups of a snapshot.
const MOST_GROUPS: usize = 64;
/// Most bytes of texts that are read: each text is read once.
const MOST_TEXT: usize = 64 << 20;

/// The physical volumes of a snapshot.
#[derive(Default)]
pub struct LvmPool {
    homes: HashMap<String, Vec<MemberHome>>,
    groups: BTreeMap<String, VolumeGroup>,
    /// By the hash of a text, to read each once.
    known: HashSet<[u8; 32]>,
    read: usize,
}

impl LvmPool {
    /// Takes one that was found.
    ///
    /// # Errors
    /// `Format`: something that it says is not understood. `Damaged`: something of it is lost. What
    /// is understood counts all the same. Else as reading has it.
    pub fn add(&mut self, home: MemberHome) -> Result<()> {
        let label = PhysicalLabel::read(&*home.on, home.place)?;
        self.homes.entry(label.uuid).or_default().push(home);
        let mut trouble = label.trouble;
        for text in label.texts {
            if let Err(error) = self.add_text(&text) {
                trouble = Some(error);
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    fn add_text(&mut self, text: &[u8]) -> Result<()> {
        let refused = |what: &str| Err(Error::new(ErrorKind::Format, what));
        if !self.known.insert(*blake3::hash(text).as_bytes()) {
            return Ok(());
        }
        self.read += text.len();
        if self.read > MOST_TEXT {
            return refused("there are more lists of LVM's volumes than are read here");
        }
        let group = VolumeGroup::parse(text)?;
        let is_full = self.groups.len() >= MOST_GROUPS;
        match self.groups.get_mut(&group.id) {
            Some(known) if known.sequence >= group.sequence => Ok(()),
            Some(known) => {
                *known = group;
                Ok(())
            }
            None if is_full => refused("there are more LVM groups than are read here"),
            None => {
                self.groups.insert(group.id.clone(), group);
                Ok(())
            }
        }
    }

    /// The volumes of all groups.
    pub fn volumes(&self) -> Vec<AssembledVolume> {
        let groups = self.groups.values();
        let each = groups.flat_map(|group| {
            let volumes = group.logical.iter();
            volumes.map(|volume| self.assemble(group, volume))
        });
        each.collect()
    }

    /// The numbers of those that are in no group that is known here.
    pub fn strays(&self) -> Vec<usize> {
        let members = self.groups.values().flat_map(|group| &group.physical);
        let known: HashSet<&str> = members.map(|member| member.uuid.as_str()).collect();
        let strays = self
            .homes
            .iter()
            .filter(|(uuid, _)| !known.contains(uuid.as_str()));
        let mut numbers: Vec<usize> = strays
            .flat_map(|(_, homes)| homes.iter().map(|home| home.number))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    fn assemble(&self, group: &VolumeGroup, volume: &LogicalVolume) -> AssembledVolume {
        let parts = volume.parts.iter().flatten();
        let members = parts.flat_map(|part| part.areas.iter().map(|area| area.member));
        let members: BTreeSet<usize> = members.collect();
        let homes = members.iter().filter_map(|member| {
            let homes = self.homes.get(&group.physical.get(*member)?.uuid)?;
            homes.first().map(|home| home.number)
        });
        AssembledVolume {
            name: format!("{}/{}", group.name, volume.name),
            device: Some(mapper_name(&group.name, &volume.name)),
            on: homes.collect(),
            volume: self.mapped(group, volume).map(Arc::new),
        }
    }

    fn mapped(
        &self,
        group: &VolumeGroup,
        volume: &LogicalVolume,
    ) -> std::result::Result<MappedVolume, String> {
        let mut parts = Vec::new();
        for part in volume.parts.as_ref().map_err(String::clone)? {
            let mut areas = Vec::new();
            let length = bytes(part.extents, group.extent);
            let share = bytes(part.extents / part.areas.len() as u64, group.extent);
            for area in &part.areas {
                let member = group.physical.get(area.member);
                let member = member.ok_or_else(|| NOT_UNDERSTOOD.to_owned())?;
                let home = self.home(member)?;
                let start = bytes(area.extent, group.extent)
                    .and_then(|start| start.checked_add(member.first.0));
                let end = start
                    .zip(share)
                    .and_then(|(start, share)| start.checked_add(share));
                let start = start
                    .filter(|_| end.is_some_and(|end| end <= home.place.length.0))
                    .ok_or_else(|| "it lies behind the end of its disk".to_owned())?;
                areas.push(MappedArea {
                    below: Arc::clone(&home.on),
                    offset: Bytes(home.place.offset.0 + start),
                });
            }
            parts.push(MappedPart {
                length: Bytes(length.ok_or_else(|| NOT_UNDERSTOOD.to_owned())?),
                areas,
                stripe: part.stripe,
            });
        }
        MappedVolume::new(parts).map_err(|error| error.to_string())
    }

    /// Where a physical volume of a group is.
    fn home(&self, member: &GroupMember) -> std::result::Result<&MemberHome, String> {
        let uuid = &member.uuid;
        match self.homes.get(uuid).map(Vec::as_slice) {
            _ if member.is_missing => Err(format!("its group has given up the disk {uuid}")),
            Some([home]) => Ok(home),
            Some(_) => Err(format!("its disk {uuid} is there more than once")),
            None => Err(format!(
                "a part of it lies on the disk {uuid}, which is not among those that are looked at"
            )),
        }
    }
}

const NOT_UNDERSTOOD: &str = "its description is not understood";

fn bytes(extents: u64, extent: Bytes) -> Option<u64> {
    extents.checked_mul(extent.0)
}

/// How the device mapper calls a volume: a hyphen in a name is written twice.
pub fn mapper_name(group: &str, volume: &str) -> String {
    let doubled = |name: &str| name.replace('-', "--");
    format!("mapper/{}-{}", doubled(group), doubled(volume))
}
