//! The end of a segment, made anew: footer and trailer follow from the header and the chunks, where
//! a segment is not sealed. What is made is believed by nobody until its name was compared with the
//! name of what was lost.

use super::chunk::{decode_chunk, hash_of};
use super::segment::{SEGMENT_HEADER, SLOTS_MAX, TRAILER_MAGIC};
use super::wire::array;
use crate::model::ObjectId;

/// The segment that these bytes begin, as far as one chunk follows the other: its name and bytes.
pub(super) fn with_new_end(segment: &[u8]) -> Option<(ObjectId, Vec<u8>)> {
    let (mut at, mut slots, mut footer) = (SEGMENT_HEADER, 0_u32, Vec::new());
    let mut room = Vec::new();
    while slots < SLOTS_MAX
        && let Ok(chunk) = decode_chunk(segment.get(at..)?, &mut room)
        && chunk.slot == slots
    {
        let numbers = [at, chunk.stored_len, chunk.plain.len(), 0];
        for number in numbers {
            let number = u32::try_from(number).ok()?;
            footer.extend_from_slice(&number.to_le_bytes());
        }
        footer.extend_from_slice(&hash_of(chunk.plain));
        at += chunk.stored_len;
        slots += 1;
    }
    let mut bytes = segment.get(..at)?.to_vec();
    bytes.extend_from_slice(&footer);
    bytes.extend_from_slice(TRAILER_MAGIC);
    bytes.extend_from_slice(&slots.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(at as u64).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_within(..SEGMENT_HEADER);
    let hash = blake3::hash(&bytes[at..]);
    bytes.extend_from_slice(hash.as_bytes());
    Some((ObjectId(array(hash.as_bytes(), 0)), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Packed, Sealer, Trailer};

    fn segment(count: u8) -> (ObjectId, Vec<u8>) {
        let sealer = Sealer::without_keys();
        let (mut writer, mut packed) = (
            sealer.create_segment(Vec::new()).unwrap(),
            Packed::default(),
        );
        for n in 0..count {
            packed.clear();
            let chunk = sealer.encode_chunk(&[n + 1; 700], &mut packed);
            writer.push(&chunk.unwrap(), &packed);
        }
        writer.finish()
    }

    /// The name proves it: what was made anew is what was lost.
    #[test]
    fn a_lost_end_is_made_anew_from_the_chunks() {
        for count in [0, 1, 20] {
            let (id, bytes) = segment(count);
            let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
            let chunks = trailer.footer_offset as usize;
            for left in [chunks, chunks + 7, bytes.len()] {
                let mut rotten = bytes.clone();
                rotten[chunks..].fill(0xee);
                rotten.truncate(left);
                let made = with_new_end(&rotten).unwrap();
                assert!(made == (id, bytes.clone()), "{count} {left}");
            }
            if count > 0 {
                let mut rotten = bytes.clone();
                rotten[SEGMENT_HEADER + 30] ^= 1;
                assert_ne!(with_new_end(&rotten).unwrap().0, id);
            }
        }
        assert!(with_new_end(&[]).is_none());
        assert!(with_new_end(&[7; 100]).is_none());
    }
}
