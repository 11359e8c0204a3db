//! A volume group, as its text describes it: physical volumes, logical ones, and in which extents
//! they lie. What it does not understand it names, and never guesses. Pure.

use super::text::{LvmSection, LvmValue};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Bytes;
use std::collections::HashMap;

/// LVM counts in sectors.
const SECTOR: u64 = 512;
/// Most logical volumes of a group.
const MOST_VOLUMES: usize = 4096;
/// Most parts of all of them.
const MOST_PARTS: usize = 1 << 16;
/// No name of LVM's is longer.
const MOST_NAME: usize = 127;
/// How many letters and digits a UUID of LVM's has.
const UUID: usize = 32;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub id: String,
    /// The higher, the newer.
    pub sequence: u64,
    /// How long an extent is.
    pub extent: Bytes,
    /// Its physical volumes.
    pub physical: Vec<GroupMember>,
    /// Its logical volumes that somebody can use.
    pub logical: Vec<LogicalVolume>,
}

/// A physical volume, as the group knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its name, as its label has it.
    pub uuid: String,
    /// Where its first extent begins.
    pub first: Bytes,
    /// How many extents it has.
    pub extents: u64,
    /// Whether the group has given it up for lost.
    pub is_missing: bool,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalVolume {
    /// Its name.
    pub name: String,
    /// Its parts, the first one first; or why it is not opened, in a sentence's end.
    pub parts: std::result::Result<Vec<LogicalPart>, String>,
}

/// A part of a logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalPart {
    /// How many extents it has.
    pub extents: u64,
    /// How long a stripe is, where there are several areas.
    pub stripe: Bytes,
    /// In which extents it lies.
    pub areas: Vec<ExtentArea>,
}

/// Extents of a physical volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentArea {
    /// Which one of the group.
    pub member: usize,
    /// The first extent.
    pub extent: u64,
}

impl VolumeGroup {
    /// Reads a group's text.
    ///
    /// # Errors
    /// `Format`: it is none, or says what nobody understands.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let whole = LvmSection::parse(text)?;
        let (name, group) = whole
            .sections()
            .next()
            .ok_or_else(|| bad("it names no group"))?;
        let number = |name| group.number(name).ok_or_else(|| bad("a number is missing"));
        let extent = number("extent_size")?
            .checked_mul(SECTOR)
            .filter(|size| *size > 0);
        if !is_name(name) {
            return Err(bad("its group has no name that LVM gives"));
        }
        let mut physical = Vec::new();
        let mut aliases = HashMap::new();
        let members = group.section("physical_volumes");
        for (alias, member) in members.iter().flat_map(|members| members.sections()) {
            aliases.insert(alias, physical.len());
            physical.push(group_member(member)?);
        }
        let mut reader = GroupReader {
            aliases,
            physical: &physical,
            parts: 0,
        };
        let logical = reader.logical(group)?;
        Ok(Self {
            name: name.to_owned(),
            id: group.text("id").unwrap_or_default().to_owned(),
            sequence: number("seqno")?,
            extent: Bytes(extent.ok_or_else(|| bad("its extents have no size"))?),
            physical,
            logical,
        })
    }
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("LVM's text: {what}"))
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    (1..=MOST_NAME).contains(&name.len()) && name.chars().all(is_plain)
}

fn group_member(section: &LvmSection) -> Result<GroupMember> {
    let number = |name| {
        section
            .number(name)
            .ok_or_else(|| bad("a number is missing"))
    };
    let uuid = section.text("id").map(|uuid| uuid.replace('-', ""));
    let is_uuid =
        |uuid: &String| uuid.len() == UUID && uuid.chars().all(|c| c.is_ascii_alphanumeric());
    let uuid = uuid
        .filter(is_uuid)
        .ok_or_else(|| bad("a disk has no name"))?;
    let first = number("pe_start")?.checked_mul(SECTOR);
    Ok(GroupMember {
        uuid,
        first: Bytes(first.ok_or_else(|| bad("a disk begins nowhere"))?),
        extents: number("pe_count")?,
        is_missing: section.has("flags", "MISSING") || section.has("status", "MISSING"),
    })
}

struct GroupReader<'a> {
    aliases: HashMap<&'a str, usize>,
    physical: &'a [GroupMember],
    /// How many parts there are so far.
    parts: usize,
}

impl GroupReader<'_> {
    fn logical(&mut self, group: &LvmSection) -> Result<Vec<LogicalVolume>> {
        let volumes = group.section("logical_volumes");
        let volumes = || volumes.iter().flat_map(|volumes| volumes.sections());
        // What is written to a volume since a snapshot of it was taken, by name.
        let mut copies = HashMap::new();
        let mut merging = HashMap::new();
        for (_, volume) in volumes() {
            let snapshots = volume.sections().map(|(_, segment)| segment);
            for segment in snapshots.filter(|segment| segment.text("type") == Some("snapshot")) {
                let origin = segment.text("origin").unwrap_or_default();
                segment
                    .text("cow_store")
                    .map(|copy| copies.insert(copy, origin));
                segment.text("merging_store").map(|copy| {
                    copies.insert(copy, origin);
                    merging.insert(origin, copy)
                });
            }
        }
        let mut found = Vec::new();
        for (name, volume) in volumes().filter(|(_, volume)| volume.has("status", "VISIBLE")) {
            if !is_name(name) {
                return Err(bad("a volume has no name that LVM gives"));
            }
            if found.len() >= MOST_VOLUMES {
                return Err(bad("it has more volumes than are read here"));
            }
            let parts = match (copies.get(name), merging.get(name)) {
                (Some(origin), _) => Err(format!(
                    "it is an LVM snapshot of {origin}, which is not opened here"
                )),
                (_, Some(copy)) => Err(format!("the LVM snapshot {copy} is being merged into it")),
                (None, None) => self.parts(volume),
            };
            found.push(LogicalVolume {
                name: name.to_owned(),
                parts,
            });
        }
        if self.parts > MOST_PARTS {
            return Err(bad("its volumes have more parts than are read here"));
        }
        Ok(found)
    }

    fn parts(&mut self, volume: &LvmSection) -> std::result::Result<Vec<LogicalPart>, String> {
        let not_understood = || "its description is not understood".to_owned();
        let mut parts = Vec::new();
        let mut at = 0_u64;
        for (_, segment) in volume.sections() {
            self.parts += 1;
            if self.parts > MOST_PARTS {
                return Err(not_understood());
            }
            let start = segment.number("start_extent").ok_or_else(not_understood)?;
            let kind = segment.text("type").unwrap_or_default();
            if kind != "striped" {
                return Err(why_not(kind));
            }
            let part = self.part(segment)?;
            if start != at {
                return Err(not_understood());
            }
            at = at.checked_add(part.extents).ok_or_else(not_understood)?;
            parts.push(part);
        }
        match volume.number("segment_count") == Some(parts.len() as u64) && !parts.is_empty() {
            true => Ok(parts),
            false => Err(not_understood()),
        }
    }

    fn part(&self, segment: &LvmSection) -> std::result::Result<LogicalPart, String> {
        let not_understood = || "its description is not understood".to_owned();
        let extents = segment.number("extent_count").ok_or_else(not_understood)?;
        let stripe = segment.number("stripe_size").unwrap_or_default();
        let count = segment.number("stripe_count");
        let pairs = segment.list("stripes").chunks(2);
        let mut areas = Vec::new();
        for pair in pairs {
            let [LvmValue::Text(alias), LvmValue::Number(extent)] = pair else {
                return Err(not_understood());
            };
            let Some(member) = self.aliases.get(alias.as_str()) else {
                return Err(format!(
                    "it lies on the volume {alias}, as one that is moved does"
                ));
            };
            areas.push(ExtentArea {
                member: *member,
                extent: *extent,
            });
        }
        let share = extents.checked_div(areas.len() as u64);
        let share = share.filter(|share| *share > 0 && count == Some(areas.len() as u64));
        let share = share.ok_or_else(not_understood)?;
        let is_within = areas.iter().all(|area| {
            let member = self.physical.get(area.member);
            let end = area.extent.checked_add(share);
            member.is_some_and(|member| end.is_some_and(|end| end <= member.extents))
        });
        if !is_within || !extents.is_multiple_of(areas.len() as u64) {
            return Err(not_understood());
        }
        Ok(LogicalPart {
            extents,
            stripe: Bytes(stripe.checked_mul(SECTOR).ok_or_else(not_understood)?),
            areas,
        })
    }
}

/// Why a volume of that type is not opened.
fn why_not(kind: &str) -> String {
    let name = match kind {
        "thin" | "thin-pool" => "thin provisioned",
        "cache" | "cache-pool" | "writecache" => "cached",
        "mirror" => "an LVM mirror",
        "vdo" | "vdo-pool" => "compressed (VDO)",
        kind if kind.starts_with("raid") => "an LVM RAID",
        kind => return format!("it is of LVM's type {kind}, which is not opened here"),
    };
    format!("it is {name}, which is not opened here")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUIDS: [&str; 2] = [
        "F8LSg3-UW2i-c2aA-6GJt-dDHJ-ENMe-XHChEo",
        "88BouF-JPHZ-cCk2-m0un-cEcy-H7du-qN1F1u",
    ];

    fn segment(number: u32, start: u64, body: &str) -> String {
        format!("segment{number} {{ start_extent = {start} {body} }}\n")
    }

    fn linear(number: u32, start: u64, count: u64, at: u64) -> String {
        let body = format!(
            "extent_count = {count} type = \"striped\" stripe_count = 1 stripes = [\"pv0\", {at}]"
        );
        segment(number, start, &body)
    }

    fn volume(name: &str, segments: &[String]) -> String {
        let count = segments.len();
        let all = segments.concat();
        format!("{name} {{ status = [\"VISIBLE\"] segment_count = {count} {all} }}\n")
    }

    fn group(volumes: &str) -> Result<VolumeGroup> {
        let disk = |number: usize, flags: &str| {
            let uuid = UUIDS[number];
            format!(
                "pv{number} {{ id = \"{uuid}\" flags = [{flags}] pe_start = 2048 pe_count = 10 }}\n"
            )
        };
        let text = format!(
            "vg {{ id = \"x\" seqno = 3 extent_size = 8 physical_volumes {{ {}{} }}\n\
             logical_volumes {{ {volumes} }} }}",
            disk(0, ""),
            disk(1, "\"MISSING\""),
        );
        VolumeGroup::parse(text.as_bytes())
    }

    fn why(volume: &str) -> String {
        let mut logical = group(volume).unwrap().logical;
        assert_eq!(logical.len(), 1, "{volume}");
        logical.remove(0).parts.unwrap_err()
    }

    #[test]
    fn parts_follow_one_another() {
        let both = [linear(1, 0, 3, 7), linear(2, 3, 2, 0)];
        let found = group(&volume("a", &both)).unwrap();
        assert!(found.physical[1].is_missing && !found.physical[0].is_missing);
        let parts = found.logical[0].parts.clone().unwrap();
        let places: Vec<_> = parts
            .iter()
            .map(|part| (part.extents, part.areas[0].extent))
            .collect();
        assert_eq!(places, [(3, 7), (2, 0)]);
    }

    #[test]
    fn what_is_not_understood_is_never_guessed() {
        let understood = "its description is not understood";
        for segments in [
            // A hole, an overlap, behind the end, nothing, none.
            vec![linear(1, 0, 3, 0), linear(2, 4, 1, 5)],
            vec![linear(1, 0, 3, 0), linear(2, 2, 1, 5)],
            vec![linear(1, 0, 3, 8)],
            vec![linear(1, 0, 3, u64::MAX)],
            vec![linear(1, 0, 0, 0)],
            vec![],
        ] {
            assert_eq!(why(&volume("a", &segments)), understood, "{segments:?}");
        }
        // Fewer parts than it says, and more stripes.
        let short =
            volume("a", &[linear(1, 0, 3, 0)]).replace("segment_count = 1", "segment_count = 2");
        assert_eq!(why(&short), understood);
        let wide =
            volume("a", &[linear(1, 0, 3, 0)]).replace("stripe_count = 1", "stripe_count = 2");
        assert_eq!(why(&wide), understood);
    }

    #[test]
    fn other_types_are_named() {
        for (kind, words) in [
            ("thin", "thin provisioned"),
            ("raid1", "an LVM RAID"),
            ("cache", "cached"),
            ("error", "type error"),
        ] {
            let body = format!("extent_count = 1 type = \"{kind}\"");
            assert!(
                why(&volume("a", &[segment(1, 0, &body)])).contains(words),
                "{kind}"
            );
        }
        let moved = volume("a", &[linear(1, 0, 1, 0)]).replace("pv0", "pvmove0");
        assert!(why(&moved).contains("pvmove0"));
    }

    #[test]
    fn a_snapshot_is_not_taken_for_a_filesystem_and_its_origin_is() {
        let all = |store: &str| {
            let snapshot = segment(
                1,
                0,
                &format!(
                    "extent_count = 1 type = \"snapshot\" origin = \"root\" {store} = \"copy\""
                ),
            );
            let hidden = volume("snapshot0", &[snapshot]).replace("\"VISIBLE\"", "");
            let both = [
                volume("root", &[linear(1, 0, 1, 0)]),
                volume("copy", &[linear(1, 0, 1, 1)]),
            ];
            group(&format!("{}{hidden}", both.concat()))
                .unwrap()
                .logical
        };
        let kept = all("cow_store");
        assert!(kept[0].parts.is_ok(), "{kept:?}");
        assert!(
            kept[1]
                .parts
                .clone()
                .unwrap_err()
                .contains("snapshot of root")
        );
        let merged = all("merging_store");
        assert!(merged[0].parts.clone().unwrap_err().contains("merged"));
    }

    #[test]
    fn a_text_that_names_nothing_is_none() {
        for text in [
            "",
            "a = 1",
            "vg { seqno = 1 }",
            "v/g { seqno = 1 extent_size = 8 }",
        ] {
            assert!(VolumeGroup::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(group(&volume("../a", &[])).is_err());
    }
}
