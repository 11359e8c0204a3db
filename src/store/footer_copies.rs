//! Copies of footers that runs have put beside their segments, many in one object: what needs
//! footers alone asks for few objects, and for no segment that must be thawed first. A copy is
//! proven by the segment's name, as the footer itself is. It says nothing of whether the segment is
//! there.

use super::ask::ask_of_each;
use super::object_name::ObjectName;
use super::object_store::{Blob, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FooterCopies, FooterCopiesRef};
use crate::model::ObjectId;
use crate::sys::locked::LockExt;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;

/// Most objects of copies that are known of.
const MOST_OBJECTS: usize = 1 << 14;
/// Most copies that are known of: those of a full disk of 32 TiB.
const MOST_COPIES: usize = 1 << 20;
/// An object up to this length is got whole when it is looked at first.
const SMALL: u64 = 1 << 20;
/// Most bytes of objects that stay in memory; one may be larger by itself.
const MOST_IN_MEMORY: usize = 16 << 20;
/// What a copy may cost, in bytes got for each footer that is wanted, before footers are got one by
/// one: a usual one has 49 KiB.
const WORTH: u64 = 128 << 10;

/// The copies that a vault's manifests name.
#[derive(Default)]
pub(super) struct CopiedFooters(Mutex<Known>);

#[derive(Default)]
struct Known {
    objects: Vec<FooterCopiesRef>,
    names: HashSet<FooterCopiesRef>,
    places: HashMap<ObjectId, CopyPlace>,
    /// The numbers of the objects that nobody has looked at.
    new: VecDeque<usize>,
    /// Whole objects that were got last, oldest first.
    whole: VecDeque<(usize, Blob)>,
    /// How many segments there are whose footers may be wanted.
    wanted: usize,
    /// Bytes that were got for footers, one by one or with others.
    got: u64,
}

/// Where a segment's copy is.
#[derive(Clone, Copy)]
struct CopyPlace {
    /// In which object.
    number: usize,
    /// Where in it, in bytes.
    start: u32,
    length: u32,
}

impl CopyPlace {
    /// Cuts it out of its object, whose length was compared with its head.
    fn of(self, object: &Blob) -> Blob {
        let start = self.start as usize;
        object.slice(start..start + self.length as usize)
    }
}

impl CopiedFooters {
    /// Learns of objects with copies; the footers of so many segments may be wanted of them.
    pub(super) fn know(&self, objects: &[FooterCopiesRef], wanted: usize) {
        let mut known = self.0.locked();
        known.wanted += wanted;
        for named in objects.iter().rev() {
            let fits = named.bytes <= FooterCopies::MAX_LEN;
            if fits && known.objects.len() < MOST_OBJECTS && known.names.insert(*named) {
                known.objects.push(*named);
                let number = known.objects.len() - 1;
                known.new.push_back(number);
            }
        }
    }

    /// Learns what is in an object that was read for another reason.
    pub(super) fn know_read(&self, named: FooterCopiesRef, copies: &FooterCopies) {
        let mut known = self.0.locked();
        known.wanted += copies.iter().count();
        if known.objects.len() < MOST_OBJECTS && known.names.insert(named) {
            known.objects.push(named);
            let number = known.objects.len() - 1;
            known.learn(number, copies);
        }
    }

    /// Counts what was got for a footer that was wanted.
    pub(super) fn count(&self, bytes: u64) {
        self.0.locked().got += bytes;
    }

    /// Bytes that were got for footers that were wanted.
    pub(super) fn got(&self) -> u64 {
        self.0.locked().got
    }

    /// Whether all copies cost less than so many footers one by one.
    pub(super) fn are_worth(&self, wanted: usize) -> bool {
        let known = self.0.locked();
        let bytes: u64 = known.objects.iter().map(|named| named.bytes).sum();
        let few = known.objects.len() <= wanted;
        !known.objects.is_empty() && few && bytes <= WORTH * wanted as u64
    }

    /// The same for the footers of all segments that may be wanted.
    pub(super) fn are_worth_all(&self) -> bool {
        let wanted = self.0.locked().wanted;
        self.are_worth(wanted)
    }

    /// The copy of a segment's end, out of an object that is got whole, as its neighbours will be
    /// wanted, too; `None`: there is none.
    pub(super) fn among_many(&self, store: &dyn ObjectStore, id: ObjectId) -> Result<Option<Blob>> {
        let mut known = self.0.locked();
        known.look_at_all(store)?;
        let Some(place) = known.places.get(&id).copied() else {
            return Ok(None);
        };
        let whole = known.whole(store, place.number)?;
        Ok(whole.map(|whole| place.of(&whole)))
    }

    /// The copy of a segment's end by itself.
    pub(super) fn alone(&self, store: &dyn ObjectStore, id: ObjectId) -> Result<Option<Blob>> {
        let mut known = self.0.locked();
        known.look_at_all(store)?;
        let Some(place) = known.places.get(&id).copied() else {
            return Ok(None);
        };
        if let Some(whole) = known.held(place.number) {
            return Ok(Some(place.of(&whole)));
        }
        let name = ObjectName::footers(known.objects[place.number]);
        // Others may ask meanwhile.
        drop(known);
        usable(store.get_range(&name, place.start.into(), place.length.into()))
    }
}

/// What is missing or damaged is no error: the segment has its own footer.
fn usable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if is_unusable(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether what an error is of is as if it were not there.
pub(super) fn is_unusable(error: &Error) -> bool {
    // Who may not read the copies may still read the segments.
    use ErrorKind::{Archived, Damaged, Format, NotFound, Unsupported};
    matches!(
        error.kind(),
        Archived | Damaged | Format | NotFound | Unsupported
    )
}

/// An object's first bytes, or all of them.
enum Looked {
    Head(Blob),
    Whole(Blob),
}

impl Known {
    /// Learns what is in the objects that nobody has looked at.
    fn look_at_all(&mut self, store: &dyn ObjectStore) -> Result<()> {
        let new = self
            .new
            .iter()
            .map(|number| (*number, self.objects[*number]));
        let new: Vec<(usize, FooterCopiesRef)> = new.collect();
        let look = |(_, named): &(usize, FooterCopiesRef)| {
            let name = ObjectName::footers(*named);
            match named.bytes <= SMALL {
                true => store.get(&name, named.bytes).map(Looked::Whole),
                false => {
                    let head = FooterCopies::head_length(named.bytes);
                    store.get_range(&name, 0, head).map(Looked::Head)
                }
            }
        };
        ask_of_each(store, &new, &|| Ok(()), look, |(number, named), looked| {
            let decoded = looked.and_then(|looked| {
                let head = match &looked {
                    Looked::Head(head) | Looked::Whole(head) => head,
                };
                FooterCopies::decode(head, named.bytes).map(|copies| (copies, looked))
            });
            if let Some((copies, looked)) = usable(decoded)? {
                self.learn(*number, &copies);
                if let Looked::Whole(bytes) = looked {
                    self.hold(*number, bytes);
                }
            }
            self.new.pop_front();
            Ok(())
        })
    }

    fn learn(&mut self, number: usize, copies: &FooterCopies) {
        for (id, place) in copies.iter() {
            if self.places.len() >= MOST_COPIES {
                return;
            }
            self.places.entry(id).or_insert(CopyPlace {
                number,
                start: place.start as u32,
                length: (place.end - place.start) as u32,
            });
        }
    }

    /// An object that is in memory.
    fn held(&self, number: usize) -> Option<Blob> {
        let mut whole = self.whole.iter();
        let (_, bytes) = whole.find(|(held, _)| *held == number)?;
        Some(bytes.clone())
    }

    fn hold(&mut self, number: usize, bytes: Blob) {
        if bytes.len() as u64 != self.objects[number].bytes {
            return;
        }
        self.whole.push_back((number, bytes));
        let mut held: usize = self.whole.iter().map(|(_, bytes)| bytes.len()).sum();
        while held > MOST_IN_MEMORY && self.whole.len() > 1 {
            let gone = self.whole.pop_front();
            held -= gone.map_or(0, |(_, bytes)| bytes.len());
        }
    }

    /// All of an object, whose length is what its manifest says.
    fn whole(&mut self, store: &dyn ObjectStore, number: usize) -> Result<Option<Blob>> {
        if let Some(held) = self.held(number) {
            return Ok(Some(held));
        }
        let named = self.objects[number];
        let got = usable(store.get(&ObjectName::footers(named), named.bytes))?;
        self.got += named.bytes;
        let got = got.filter(|bytes| bytes.len() as u64 == named.bytes);
        if let Some(bytes) = &got {
            self.hold(number, bytes.clone());
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FooterCopiesWriter;
    use crate::model::SnapshotId;
    use crate::store::{CountStore, MemoryStore};
    use std::sync::Arc;

    /// A store with objects of copies, and the gets of it.
    struct Stage {
        memory: Arc<MemoryStore>,
        counted: CountStore,
        copies: CopiedFooters,
        run: SnapshotId,
    }

    fn segment(n: u8) -> ObjectId {
        ObjectId([n; 16])
    }

    impl Stage {
        fn new() -> Self {
            let memory = Arc::new(MemoryStore::new());
            Self {
                counted: CountStore::new(memory.clone()),
                memory,
                copies: CopiedFooters::default(),
                run: SnapshotId::generate(1),
            }
        }

        /// Puts an object with the copies of these segments' ends, all of one length.
        fn put(&self, part: u32, segments: std::ops::Range<u8>, length: usize) -> FooterCopiesRef {
            let mut writer = FooterCopiesWriter::default();
            for n in segments {
                writer.push(segment(n), &vec![n; length]);
            }
            let bytes = writer.take().unwrap();
            let named = FooterCopiesRef {
                run: self.run,
                part,
                bytes: bytes.len() as u64,
            };
            self.memory
                .put(&ObjectName::footers(named), bytes.into())
                .unwrap();
            named
        }

        /// Operations and bytes of gets since this was asked last.
        fn gets(&self) -> [u64; 2] {
            let counts = self.counted.take();
            counts
                .get("get")
                .map_or([0, 0], |get| [get.operations, get.bytes])
        }

        fn many(&self, n: u8) -> Option<Blob> {
            self.copies.among_many(&self.counted, segment(n)).unwrap()
        }

        fn alone(&self, n: u8) -> Option<Blob> {
            self.copies.alone(&self.counted, segment(n)).unwrap()
        }
    }

    #[test]
    fn a_small_object_is_got_once_for_all_of_its_copies() {
        let stage = Stage::new();
        let named = [stage.put(0, 0..5, 1000), stage.put(1, 5..9, 1000)];
        stage.copies.know(&named, 9);
        stage.copies.know(&named[..1], 5);
        assert_eq!(stage.gets(), [0, 0], "nothing is asked before it is needed");
        for n in [3, 8, 0, 1, 3] {
            assert_eq!(stage.many(n).unwrap(), vec![n; 1000]);
            assert_eq!(stage.alone(n).unwrap(), vec![n; 1000]);
        }
        assert_eq!(stage.many(9), None);
        let bytes = named.iter().map(|named| named.bytes).sum();
        assert_eq!(stage.gets(), [2, bytes]);
    }

    #[test]
    fn of_a_large_object_the_head_is_got_first_and_then_what_is_wanted() {
        const LENGTH: usize = 700_000;
        let stage = Stage::new();
        let named: Vec<_> = (0..4)
            .map(|n| stage.put(n.into(), 9 * n..9 * n + 9, LENGTH))
            .collect();
        stage.copies.know(&named, 36);
        assert_eq!(stage.alone(30).unwrap(), vec![30; LENGTH]);
        let [gets, bytes] = stage.gets();
        assert!(gets == 5 && bytes < 2 * LENGTH as u64, "{gets} {bytes}");
        assert_eq!(stage.many(2).unwrap(), vec![2; LENGTH]);
        assert_eq!(stage.many(8).unwrap(), vec![8; LENGTH]);
        assert_eq!(stage.gets(), [1, named[0].bytes]);
        for n in 0..36 {
            assert_eq!(stage.many(n).unwrap(), vec![n; LENGTH]);
        }
        assert_eq!(stage.gets()[0], 3, "in their order each is got once");
        let held: usize = stage
            .copies
            .0
            .locked()
            .whole
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum();
        assert!(held <= MOST_IN_MEMORY, "{held}");
    }

    #[test]
    fn what_cannot_be_used_is_none_and_hides_no_other() {
        let stage = Stage::new();
        let good = stage.put(0, 0..3, 1000);
        let gone = stage.put(1, 10..13, 1000);
        stage.memory.delete(&ObjectName::footers(gone)).unwrap();
        let rotten = stage.put(2, 20..23, 1000);
        let name = ObjectName::footers(rotten);
        stage.memory.corrupt(&name, |bytes| bytes[20] ^= 1);
        let longer = stage.put(3, 30..33, 1000);
        let longer = FooterCopiesRef {
            bytes: longer.bytes - 1,
            ..longer
        };
        let endless = FooterCopiesRef {
            part: 4,
            bytes: u64::MAX,
            ..good
        };
        stage.copies.know(&[gone, rotten, longer, endless, good], 3);
        for n in [10, 20, 30] {
            assert_eq!((stage.many(n), stage.alone(n)), (None, None));
        }
        assert_eq!(stage.many(2).unwrap(), vec![2; 1000]);
        // Once each, however often it is asked for.
        assert_eq!(stage.counted.take()["get"].operations, 4);
    }

    #[test]
    fn few_footers_are_not_worth_many_copies() {
        let stage = Stage::new();
        assert!(!stage.copies.are_worth(1000), "there are none");
        let named: Vec<_> = (0..3)
            .map(|n| stage.put(n.into(), n..n + 1, 100_000))
            .collect();
        stage.copies.know(&named, 2);
        assert!(!stage.copies.are_worth_all());
        stage.copies.know(&[], 1);
        assert!(stage.copies.are_worth_all());
        let long = stage.put(3, 3..13, 100_000);
        stage.copies.know(&[long], 1);
        assert!(!stage.copies.are_worth_all(), "too many bytes");
        assert!(stage.copies.are_worth(11));
    }
}
