//! Without a second place: headers, footers and trailers of segments are made anew from what is
//! left, and copies of footers from the segments.

use super::*;

/// Where a segment's footer begins.
fn footer_of(bytes: &[u8]) -> usize {
    let at = bytes.len() - 192 + 16;
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// The same without the copies of footers.
fn without_copies(store: &MemoryStore) -> Arc<MemoryStore> {
    let copy = copy_of(store);
    for name in names(store, "footers") {
        copy.delete(&name).unwrap();
    }
    copy
}

type Rot = Box<dyn Fn(&mut Vec<u8>)>;

#[test]
fn a_segment_whose_ends_have_rotted_is_made_anew_from_its_chunks() {
    let source = Source::new();
    let with = copy_of(&source.store);
    let without = without_copies(&source.store);
    for (has_copies, vault) in [(true, with), (false, without)] {
        let truth = contents(vault.as_ref());
        for name in names(vault.as_ref(), "segments") {
            let length = truth[name.as_str()].len();
            let footer = footer_of(&truth[name.as_str()]);
            let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
            let fill = move |bytes: &mut Vec<u8>| bytes[footer..].fill(0xee);
            let cut = move |bytes: &mut Vec<u8>| bytes.truncate(footer + 3);
            let more = |bytes: &mut Vec<u8>| bytes.extend_from_slice(&[7; 5000]);
            let changes: [(&str, Rot); 8] = [
                ("salt", Box::new(flip(20))),
                ("header's sum", Box::new(flip(125))),
                ("footer", Box::new(flip(footer + 20))),
                ("trailer", Box::new(flip(length - 170))),
                ("last hash", Box::new(flip(length - 1))),
                ("end filled", Box::new(fill)),
                ("end cut off", Box::new(cut)),
                ("more behind it", Box::new(more)),
            ];
            for (what, change) in changes {
                let what = format!("{what}: {name}, copies: {has_copies}");
                let store = copy_of(&vault);
                store.corrupt(&name, change);
                let report = repaired(store.clone(), None, &READ_ALL).unwrap();
                is_well(&report, &what);
                assert_eq!(report.done.len(), 1, "{what}: {report:?}");
                assert_eq!(report.done[0].remedy, Remedy::Rebuild, "{what}");
                assert!(contents(store.as_ref()) == truth, "{what}");
            }
        }
    }
}

/// Header and footer: only a copy of the footer has both.
#[test]
fn a_copy_of_the_footer_stands_in_for_both_ends() {
    let source = Source::new();
    let truth = contents(source.store.as_ref());
    for name in names(source.store.as_ref(), "segments") {
        let footer = footer_of(&truth[name.as_str()]);
        let both = |bytes: &mut Vec<u8>| {
            bytes[20] ^= 1;
            bytes[footer + 20] ^= 1;
        };
        let store = copy_of(&source.store);
        store.corrupt(&name, both);
        is_well(
            &repaired(store.clone(), None, &READ_ALL).unwrap(),
            name.as_str(),
        );
        assert!(contents(store.as_ref()) == truth, "{name}");
        let store = without_copies(&source.store);
        store.corrupt(&name, both);
        let report = repaired(store.clone(), None, &READ_ALL).unwrap();
        assert!(
            report.done.is_empty() && report.left.len() == 1,
            "{report:?}"
        );
    }
}

#[test]
fn what_is_left_of_no_use_stays_and_is_told() {
    let source = Source::new();
    let truth = contents(source.store.as_ref());
    for name in names(source.store.as_ref(), "segments") {
        // A chunk's bytes, its header, and all behind it.
        let changes: [Change; 3] = [
            |bytes| bytes[128 + 24] ^= 1,
            |bytes| bytes[128] ^= 1,
            |bytes| bytes.truncate(130),
        ];
        for change in changes {
            let store = copy_of(&source.store);
            store.corrupt(&name, change);
            let rotten = store.get(&name, 1 << 30).unwrap();
            let report = repaired(store.clone(), None, &READ_ALL).unwrap();
            assert!(report.done.is_empty(), "{name}: {report:?}");
            assert_eq!(report.left.len(), 1, "{name}: {report:?}");
            assert_eq!(store.get(&name, 1 << 30).unwrap(), rotten);
            let mut now = contents(store.as_ref());
            now.retain(|name, _| !name.starts_with("damaged/"));
            assert_eq!(now.len(), truth.len(), "something was deleted");
        }
    }
}

#[test]
fn copies_of_footers_are_made_anew_while_their_head_is_left() {
    let source = Source::new();
    let truth = contents(source.store.as_ref());
    for name in names(source.store.as_ref(), "footers") {
        let copies = truth[name.as_str()].len();
        for (at, rebuilt) in [(copies - 1, true), (copies - 200, true), (20, false)] {
            let store = copy_of(&source.store);
            store.corrupt(&name, |bytes| bytes[at] ^= 1);
            let report = repaired(store.clone(), None, &OPTIONS).unwrap();
            assert!(report.after.broken.is_empty(), "no loss");
            assert_eq!(
                report.done.len(),
                usize::from(rebuilt),
                "{name} {at}: {report:?}"
            );
            assert_eq!(report.left.len(), usize::from(!rebuilt), "{name} {at}");
            assert_eq!(contents(store.as_ref()) == truth, rebuilt, "{name} {at}");
        }
        let store = copy_of(&source.store);
        store.corrupt(&name, |bytes| bytes.truncate(copies - 100));
        is_well(
            &repaired(store.clone(), None, &OPTIONS).unwrap(),
            name.as_str(),
        );
        assert!(contents(store.as_ref()) == truth, "{name}");
    }
}
