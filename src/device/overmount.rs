//! Which mounts of a namespace no path leads to, as others are laid over them. It must cost no more
//! than sorting the table: a user may nest thousands of mounts in one another.

use crate::sys::mountinfo::MountLine;
use std::cmp::Ordering;
use std::collections::HashMap;

/// Whether each mount is hidden: by one on its own root, or by one that lies over the way to it, or
/// to a mount that it is on.
///
/// Paths are compared as the kernel has written them: what it escapes never is a slash.
pub(super) fn overmounted(lines: &[MountLine<'_>]) -> Vec<bool> {
    let by_id: HashMap<u64, usize> = lines
        .iter()
        .enumerate()
        .map(|(at, line)| (line.id, at))
        .collect();
    let parents: Vec<Option<usize>> = lines
        .iter()
        .map(|line| by_id.get(&line.parent).copied())
        .collect();
    let (covered, blocked) = by_siblings(lines, &parents);
    let unreachable = on_any(&blocked, &parents);
    let both = covered.into_iter().zip(unreachable);
    both.map(|(covered, unreachable)| covered || unreachable)
        .collect()
}

/// A mount on another.
struct Child<'a> {
    parent: usize,
    at: usize,
    /// Where, from the root of that other on: empty, or with a slash at its start.
    place: &'a [u8],
}

/// Of each mount, whether one lies on its root; and whether one that is on the same mount lies over
/// the way from that mount's root to it.
fn by_siblings(lines: &[MountLine<'_>], parents: &[Option<usize>]) -> (Vec<bool>, Vec<bool>) {
    let child = |at: usize| {
        let parent = parents.get(at).copied().flatten();
        let parent = parent.filter(|parent| *parent != at)?;
        let place = below(lines.get(at)?.target, lines.get(parent)?.target)?;
        Some(Child { parent, at, place })
    };
    let mut children: Vec<Child<'_>> = (0..lines.len()).filter_map(child).collect();
    children.sort_by(|one, other| {
        let places = by_component(one.place, other.place);
        one.parent.cmp(&other.parent).then(places)
    });
    let mut covered = vec![false; lines.len()];
    let mut blocked = vec![false; lines.len()];
    // In this order, what lies below a place comes right after it.
    let mut above: Vec<&[u8]> = Vec::new();
    let mut family = None;
    for child in &children {
        if family != Some(child.parent) {
            family = Some(child.parent);
            above.clear();
        }
        while above.last().is_some_and(|top| !leads_to(top, child.place)) {
            above.pop();
        }
        let same = above.last() == Some(&child.place);
        if let Some(slot) = blocked.get_mut(child.at) {
            *slot = above.len() > usize::from(same);
        }
        if !same {
            above.push(child.place);
        }
        if let Some(slot) = covered
            .get_mut(child.parent)
            .filter(|_| child.place.is_empty())
        {
            *slot = true;
        }
    }
    (covered, blocked)
}

/// Whether `bad` holds for a mount or for one that it is on.
fn on_any(bad: &[bool], parents: &[Option<usize>]) -> Vec<bool> {
    let mut known: Vec<Option<bool>> = vec![None; bad.len()];
    let mut way = Vec::new();
    for first in 0..bad.len() {
        let mut next = Some(first);
        let mut below = false;
        while let Some(at) = next {
            match known.get(at).copied().flatten() {
                Some(found) => {
                    below = found;
                    break;
                }
                None => {
                    way.push(at);
                    // Until its own answer is known: a mount never is its own ancestor, but a table
                    // read while mounts move may say so.
                    if let Some(slot) = known.get_mut(at) {
                        *slot = Some(false);
                    }
                    next = parents.get(at).copied().flatten();
                }
            }
        }
        while let Some(at) = way.pop() {
            below |= bad.get(at).copied().unwrap_or(false);
            if let Some(slot) = known.get_mut(at) {
                *slot = Some(below);
            }
        }
    }
    known.into_iter().map(|one| one.unwrap_or(false)).collect()
}

/// What is left of a path below another.
fn below<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    let root = if root == b"/" { b"" } else { root };
    let path = if path == b"/" { b"" } else { path };
    let rest = path.strip_prefix(root)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

/// Whether a place is another, or above it.
fn leads_to(place: &[u8], to: &[u8]) -> bool {
    below(to, place).is_some()
}

/// In the order of their components: a slash is less than all else.
fn by_component(one: &[u8], other: &[u8]) -> Ordering {
    let rank = |byte: &u8| (*byte != b'/', *byte);
    let differ = one.iter().zip(other).find(|(here, there)| here != there);
    differ.map_or(one.len().cmp(&other.len()), |(here, there)| {
        rank(here).cmp(&rank(there))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo::lines;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::path::{Path, PathBuf};

    fn seen(table: &str) -> Vec<u64> {
        let lines: Vec<MountLine<'_>> = lines(table.as_bytes()).collect();
        let overmounted = overmounted(&lines);
        let seen = lines.iter().zip(overmounted).filter(|(_, hidden)| !hidden);
        seen.map(|(line, _)| line.id).collect()
    }

    #[test]
    fn a_mount_below_another_is_hidden() {
        let root = "1 0 8:1 / / rw - ext4 a rw\n";
        assert_eq!(seen(root), vec![1]);
        let stacked = format!("{root}2 1 8:2 / /m rw - ext4 b rw\n3 2 8:3 / /m rw - ext4 c rw\n");
        assert_eq!(seen(&stacked), vec![1, 3]);
        let overmounted =
            format!("{root}2 1 8:2 / /m/n rw - ext4 b rw\n3 1 8:3 / /m rw - ext4 c rw\n");
        assert_eq!(seen(&overmounted), vec![1, 3]);
        let nested = format!("{root}2 1 8:2 / /m rw - ext4 b rw\n3 2 8:3 / /m/n rw - ext4 c rw\n");
        assert_eq!(seen(&nested), vec![1, 2, 3]);
        let late = format!("{nested}4 2 8:4 / /m rw - ext4 d rw\n");
        assert_eq!(seen(&late), vec![1, 4]);
        let beside =
            format!("{root}2 1 8:2 / /m rw - ext4 b rw\n3 1 8:3 / /m-n/o rw - ext4 c rw\n");
        assert_eq!(seen(&beside), vec![1, 2, 3], "a name that begins alike");
        let between = format!("{beside}4 1 8:4 / /m/p rw - ext4 d rw\n");
        assert_eq!(seen(&between), vec![1, 2, 3], "a name between the two");
    }

    #[test]
    fn a_table_that_leads_in_a_circle_comes_to_an_end() {
        let circle = "1 2 8:1 / /a rw - ext4 a rw\n2 1 8:2 / /a/b rw - ext4 b rw\n\
            3 3 8:3 / / rw - ext4 c rw\n4 3 8:4 / /c rw - ext4 d rw\n";
        assert_eq!(seen(circle), vec![1, 2, 3, 4]);
    }

    /// As the words above [`overmounted`] say it, without a thought for what it costs.
    fn oracle(lines: &[MountLine<'_>]) -> Vec<bool> {
        let path = |field: &[u8]| PathBuf::from(String::from_utf8(field.to_vec()).unwrap());
        let places: HashSet<(u64, PathBuf)> = lines
            .iter()
            .map(|line| (line.parent, path(line.target)))
            .collect();
        let hidden = |line: &MountLine<'_>| {
            let covered = places.contains(&(line.id, path(line.target)));
            let mut way = Some(line);
            while let Some(at) = way {
                way = lines.iter().find(|other| other.id == at.parent);
                let Some(on) = way else { break };
                let (target, root) = (path(at.target), path(on.target));
                let mut over = target.ancestors().skip(1);
                let over = over.find(|place| {
                    place.starts_with(&root)
                        && places.contains(&(at.parent, Path::new(place).to_owned()))
                });
                if over.is_some() {
                    return true;
                }
            }
            covered
        };
        lines.iter().map(hidden).collect()
    }

    proptest! {
        /// Each mount is on an earlier one, at or below its place, as the kernel has them.
        #[test]
        fn it_is_as_the_slow_way_says(
            steps in vec((any::<prop::sample::Index>(), "(/(a|a-|b))?(/[ab])?"), 0..24)
        ) {
            let mut mounts = vec![(1, 0, String::from("/"))];
            for (on, place) in steps {
                let (parent, _, target) = mounts[on.index(mounts.len())].clone();
                let target = format!("{}{place}", target.trim_end_matches('/'));
                let target = if target.is_empty() { "/".into() } else { target };
                // The kernel puts a second mount at one place onto the first.
                if !mounts.iter().any(|(_, on, at)| (*on, at) == (parent, &target)) {
                    mounts.push((mounts.len() as u64 + 1, parent, target));
                }
            }
            let table: String = mounts
                .iter()
                .map(|(id, parent, target)| format!("{id} {parent} 0:1 / {target} rw - x x rw\n"))
                .collect();
            let lines: Vec<MountLine<'_>> = lines(table.as_bytes()).collect();
            prop_assert_eq!(overmounted(&lines), oracle(&lines));
        }
    }
}
