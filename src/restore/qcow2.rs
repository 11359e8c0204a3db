//! A qcow2 image in a file. Which blocks hold data is known before the first is written, so each
//! has its place from the start: tables in front, then the data in the order of the disk. It never
//! writes a cluster twice, and the header, which makes an image of it, comes last.
//!
//! The format is QEMU's `docs/interop/qcow2.rst`:
//!
//! ```text
//! All numbers in qcow2 are stored in Big Endian byte order.
//! Byte  0 -  3:   magic                    QCOW magic string ("QFI\xfb")
//!       4 -  7:   version                  Version number (valid values are 2 and 3)
//!       8 - 15:   backing_file_offset      0 if the image doesn't have a backing file.
//!      16 - 19:   backing_file_size
//!      20 - 23:   cluster_bits             Number of bits that are used for addressing an offset
//!                                          within a cluster
//!      24 - 31:   size                     Virtual disk size in bytes.
//!      32 - 35:   crypt_method             0 for no encryption
//!      36 - 39:   l1_size                  Number of entries in the active L1 table
//!      40 - 47:   l1_table_offset          Must be aligned to a cluster boundary.
//!      48 - 55:   refcount_table_offset    Must be aligned to a cluster boundary.
//!      56 - 59:   refcount_table_clusters  Number of clusters that the refcount table occupies
//!      60 - 63:   nb_snapshots             Number of snapshots contained in the image
//!      64 - 71:   snapshots_offset
//!      72 - 79:   incompatible_features
//!      80 - 87:   compatible_features
//!      88 - 95:   autoclear_features
//!      96 - 99:   refcount_order           refcount_bits = 1 << refcount_order
//!     100 - 103:  header_length            at least 104 bytes and must be a multiple of 8
//! L1 table entry: 9 - 55:  Bits 9-55 of the offset into the image file at which the L2 table
//!                          starts. If the offset is 0, the L2 table and all clusters described
//!                          by this L2 table are unallocated.
//!                 63:      0 for an L2 table that is unused or requires COW, 1 if its refcount
//!                          is exactly one.
//! L2 table entry: 9 - 55:  Bits 9-55 of host cluster offset.
//!                 63:      1 if its refcount is exactly one.
//! Refcount table entry: 9 - 63: Bits 9-63 of the offset into the image file at which the
//!                          refcount block starts.
//! ```

use super::output_file::OutputFile;
use super::target::{Target, each_at, write_error};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::{BLOCK_SIZE, Bytes, Content, Extent, RunMap, block_count};
use std::os::unix::fs::FileExt;

/// A cluster is a block, so that a block has one place.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const _: () = assert!(CLUSTER == BLOCK_SIZE);
/// Entries of 8 bytes in a cluster: clusters that one L2 table describes, 512 MiB.
const ENTRIES: u64 = CLUSTER / 8;
/// Entries of 16 bits in a cluster: clusters that one refcount block counts, 2 GiB.
const REFCOUNTS: u64 = CLUSTER / 2;
/// Refcounts have `1 << 4` bits.
const REFCOUNT_ORDER: u32 = 4;
const HEADER_LENGTH: u32 = 104;
/// The refcount of what is pointed to is exactly one.
const COPIED: u64 = 1 << 63;

/// Neighbouring blocks of data, and the cluster in the file that holds the first one.
#[derive(Clone, Copy)]
struct Data {
    start: u64,
    count: u64,
    cluster: u64,
}

/// What is where in the file, in clusters: the header, the refcount table and blocks, the L1 table,
/// the L2 tables, the data.
struct Qcow2Layout {
    size: Bytes,
    data: Vec<Data>,
    /// Which L1 entries have an L2 table; these stand in this order.
    l2: Vec<u64>,
    l1_entries: u64,
    table_clusters: u64,
    refcount_blocks: u64,
    l1_clusters: u64,
    total: u64,
}

impl Qcow2Layout {
    fn new(map: &RunMap, size: Bytes) -> Self {
        let (mut data, mut l2) = (Vec::<Data>::new(), Vec::new());
        let mut count = 0;
        for run in map.iter() {
            if !matches!(run.content, Content::Data { .. }) {
                continue;
            }
            for table in run.start.0 / ENTRIES..=(run.end() - 1) / ENTRIES {
                if l2.last() != Some(&table) {
                    l2.push(table);
                }
            }
            match data.last_mut() {
                Some(last) if last.start + last.count == run.start.0 => last.count += run.count,
                _ => data.push(Data {
                    start: run.start.0,
                    count: run.count,
                    cluster: count,
                }),
            }
            count += run.count;
        }
        let l1_entries = block_count(size).div_ceil(ENTRIES);
        let l1_clusters = l1_entries.div_ceil(ENTRIES);
        let others = 1 + l1_clusters + l2.len() as u64 + count;
        let (table_clusters, refcount_blocks) = refcounts_for(others);
        let total = others + table_clusters + refcount_blocks;
        for run in &mut data {
            run.cluster += total - count;
        }
        Self {
            size,
            data,
            l2,
            l1_entries,
            table_clusters,
            refcount_blocks,
            l1_clusters,
            total,
        }
    }

    fn refcount_block(&self) -> u64 {
        1 + self.table_clusters
    }

    fn l1(&self) -> u64 {
        self.refcount_block() + self.refcount_blocks
    }

    fn l2(&self) -> u64 {
        self.l1() + self.l1_clusters
    }

    /// The byte in the file at which a block's data is.
    fn place(&self, block: u64) -> Option<u64> {
        let after = self.data.partition_point(|run| run.start <= block);
        let run = self.data.get(after.checked_sub(1)?)?;
        let inside = block - run.start;
        (inside < run.count).then(|| (run.cluster + inside) * CLUSTER)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_LENGTH as usize + 8);
        let four = |header: &mut Vec<u8>, value: u32| header.extend(value.to_be_bytes());
        let eight = |header: &mut Vec<u8>, value: u64| header.extend(value.to_be_bytes());
        header.extend(b"QFI\xfb");
        four(&mut header, 3);
        eight(&mut header, 0);
        four(&mut header, 0);
        four(&mut header, CLUSTER_BITS);
        eight(&mut header, self.size.0);
        four(&mut header, 0);
        // At most 2^19: a disk has fewer than 2^32 blocks.
        four(&mut header, self.l1_entries as u32);
        eight(&mut header, self.l1() * CLUSTER);
        eight(&mut header, CLUSTER);
        four(&mut header, self.table_clusters as u32);
        four(&mut header, 0);
        eight(&mut header, 0);
        for _features in 0..3 {
            eight(&mut header, 0);
        }
        four(&mut header, REFCOUNT_ORDER);
        four(&mut header, HEADER_LENGTH);
        // "0x00000000 - End of the header extension area"
        eight(&mut header, 0);
        header
    }

    /// Hands over the refcount table, the refcount blocks, the L1 and the L2 tables, each with its
    /// place in the file. The L1 table, of at most 4 MiB, is the largest.
    fn tables(&self, put: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let first = self.refcount_block();
        let table = (first..first + self.refcount_blocks).map(|cluster| cluster * CLUSTER);
        put(CLUSTER, &big_endian(table))?;
        for n in 0..self.refcount_blocks {
            let used = (self.total - n * REFCOUNTS).min(REFCOUNTS);
            put((first + n) * CLUSTER, &[0, 1].repeat(used as usize))?;
        }
        let mut l1 = vec![0; self.l1_entries as usize];
        for (n, table) in (self.l2()..).zip(&self.l2) {
            if let Some(entry) = l1.get_mut(*table as usize) {
                *entry = (n * CLUSTER) | COPIED;
            }
        }
        put(self.l1() * CLUSTER, &big_endian(l1))?;
        for (n, table) in (self.l2()..).zip(&self.l2) {
            put(n * CLUSTER, &self.l2_table(*table))?;
        }
        Ok(())
    }

    fn l2_table(&self, number: u64) -> Vec<u8> {
        let (start, end) = (number * ENTRIES, (number + 1) * ENTRIES);
        let mut entries = vec![0; ENTRIES as usize];
        let first = self
            .data
            .partition_point(|run| run.start + run.count <= start);
        let inside = self.data.iter().skip(first);
        for run in inside.take_while(|run| run.start < end) {
            for block in run.start.max(start)..(run.start + run.count).min(end) {
                if let Some(entry) = entries.get_mut((block - start) as usize) {
                    *entry = ((run.cluster + block - run.start) * CLUSTER) | COPIED;
                }
            }
        }
        big_endian(entries)
    }
}

/// How many clusters of refcount table and how many refcount blocks are needed for so many other
/// clusters: both count themselves too.
fn refcounts_for(others: u64) -> (u64, u64) {
    let (mut table, mut blocks) = (1, 1);
    loop {
        let need = (others + table + blocks).div_ceil(REFCOUNTS);
        let need_table = need.div_ceil(ENTRIES);
        if (need_table, need) == (table, blocks) {
            return (table, blocks);
        }
        // Only ever grows, to the smallest that is enough.
        (table, blocks) = (need_table.max(table), need.max(blocks));
    }
}

fn big_endian(entries: impl IntoIterator<Item = u64>) -> Vec<u8> {
    entries.into_iter().flat_map(u64::to_be_bytes).collect()
}

/// A qcow2 image (version 3) on its way to a name. Blocks that are zero or free take no room in it.
/// Memory: 24 bytes for each run of data, and up to 8 MiB (for 256 TiB) while it is made.
pub struct Qcow2File {
    file: OutputFile,
    layout: Qcow2Layout,
}

impl Qcow2File {
    /// How many bytes the whole image of such a disk takes.
    pub fn room(map: &RunMap, size: Bytes) -> u64 {
        Qcow2Layout::new(map, size).total * CLUSTER
    }

    /// Starts an image, in an empty file, of a disk of `size` which holds data where `map` says so;
    /// it gets its name when it is finished.
    pub fn create(file: OutputFile, map: &RunMap, size: Bytes) -> Result<Self> {
        let layout = Qcow2Layout::new(map, size);
        let length = file.file().set_len(layout.total * CLUSTER);
        length.io_context("set the length of", file.path())?;
        layout.tables(&mut |at, bytes| {
            let written = file.file().write_all_at(bytes, at);
            written.io_context("write the tables of", file.path())
        })?;
        Ok(Self { file, layout })
    }
}

impl Target for Qcow2File {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        each_at(offset, blocks, |at, bytes| {
            let inside = at.0 % CLUSTER;
            let place = self.layout.place(at.block().0);
            let place = place.filter(|_| inside + bytes.len() as u64 <= CLUSTER);
            let place = place.ok_or_else(|| {
                let what = format!("byte {} has no place in the image", at.0);
                Error::new(ErrorKind::Failed, what)
            })?;
            let file = self.file.file();
            file.write_all_at(bytes, place + inside)
                .map_err(|error| write_error(self.file.path(), at, error))
        })
    }

    fn hole(&self, _: Extent) -> Result<()> {
        // No cluster, or one that was never written to: either reads as zeros.
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let file = self.file.file();
        // What the header points to must be there before it.
        file.sync_data().io_context("write", self.file.path())?;
        file.write_all_at(&self.layout.header(), 0)
            .io_context("write the header of", self.file.path())?;
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockIndex, ObjectId, Run};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn refcounts_count_themselves(others in prop_oneof![1..100_000_u64, 1..1_u64 << 33]) {
            let (table, blocks) = refcounts_for(others);
            let enough = |table: u64, blocks: u64| {
                blocks * REFCOUNTS >= others + table + blocks && table * ENTRIES >= blocks
            };
            prop_assert!(enough(table, blocks));
            prop_assert!(!enough(table, blocks - 1));
            prop_assert!(table == 1 || !enough(table - 1, blocks));
        }

        /// Each block of data has a cluster of its own, in order, and nothing else has one.
        #[test]
        fn each_block_has_its_place(
            runs in prop::collection::vec((0..40_000_u64, 1..9_000_u64), 0..12)
        ) {
            let mut map = RunMap::new();
            let zero = |start, count, content| Run { start: BlockIndex(start), count, content };
            map.insert(zero(0, 50_000, Content::Zero));
            for (n, (start, count)) in (0..).zip(runs) {
                let content = Content::Data { segment: ObjectId([n; 16]), slot: 0 };
                map.insert(zero(start, count, content));
            }
            let layout = Qcow2Layout::new(&map, Bytes(50_000 * BLOCK_SIZE));
            let mut next = layout.l2() + layout.l2.len() as u64;
            for block in 0..50_000 {
                let held = matches!(map.get(BlockIndex(block)), Some(Content::Data { .. }));
                prop_assert_eq!(layout.place(block), held.then_some(next * CLUSTER));
                next += u64::from(held);
            }
            prop_assert_eq!(layout.total, next);
            prop_assert_eq!(layout.place(50_000), None);
        }
    }
}
