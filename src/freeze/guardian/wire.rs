//! The messages that engine and guardian send each other once the guardian is ready, one datagram
//! each. When something is frozen, neither side may allocate: both encode into and decode from
//! memory that they hold. What they send before that is in `handover`.

use crate::freeze::MAX_TARGETS;
use crate::freeze::target_states::CallResult;
use std::time::Duration;

/// Bytes of one target's result.
const ENTRY_LEN: usize = 8;
/// Bytes before the entries of a reply.
const HEAD_LEN: usize = 32;
/// No reply is longer.
pub(super) const MAX_REPLY: usize = HEAD_LEN + MAX_TARGETS * ENTRY_LEN;

/// What the engine asks for once everything has been handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    WriteOut,
    Freeze,
    Thaw,
}

impl Order {
    pub(super) fn encode(self) -> [u8; 1] {
        match self {
            Self::WriteOut => *b"W",
            Self::Freeze => *b"F",
            Self::Thaw => *b"T",
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"W" => Some(Self::WriteOut),
            b"F" => Some(Self::Freeze),
            b"T" => Some(Self::Thaw),
            _ => None,
        }
    }
}

/// What the guardian replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// All targets are written out, or one could not be.
    WrittenOut,
    /// All targets are frozen. Entries: what each took.
    Frozen,
    /// One target could not be frozen; the others are thawed again.
    Failed,
    /// Thawed as asked. Entries: what each took, and its error.
    Thawed,
    /// The deadline passed; thawed.
    Expired,
}

impl ReplyKind {
    const ALL: [(Self, u32); 5] = [
        (Self::Frozen, 2),
        (Self::Failed, 3),
        (Self::Thawed, 4),
        (Self::Expired, 5),
        (Self::WrittenOut, 6),
    ];
}

/// The fixed part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyHead {
    pub(super) kind: ReplyKind,
    /// `Failed`, `WrittenOut`: which target; `Expired`: which one is still stuck, if
    /// [`ReplyHead::left`] is not 0.
    pub(super) index: usize,
    /// `Failed`, `WrittenOut`: why, or 0.
    pub(super) errno: i32,
    /// How many targets are not thawed yet; the guardian stays with them.
    pub(super) left: u32,
    /// From the order to freeze to this reply.
    pub(super) since_order: Duration,
}

impl ReplyHead {
    /// Writes the reply into `out`; `entries` beyond what fits are dropped.
    pub(super) fn encode<'a>(
        &self,
        entries: impl Iterator<Item = CallResult>,
        out: &'a mut [u8; MAX_REPLY],
    ) -> &'a [u8] {
        let kind = ReplyKind::ALL.iter().find(|(kind, _)| *kind == self.kind);
        let mut head = [0; HEAD_LEN];
        let micros = u64::try_from(self.since_order.as_micros()).unwrap_or(u64::MAX);
        head[..4].copy_from_slice(&kind.map_or(0, |(_, code)| *code).to_le_bytes());
        head[4..8].copy_from_slice(&u32::try_from(self.index).unwrap_or(u32::MAX).to_le_bytes());
        head[8..12].copy_from_slice(&self.errno.to_le_bytes());
        head[12..16].copy_from_slice(&self.left.to_le_bytes());
        head[16..24].copy_from_slice(&micros.to_le_bytes());
        let (front, back) = out.split_at_mut(HEAD_LEN);
        let mut count = 0;
        for (slot, entry) in back.chunks_exact_mut(ENTRY_LEN).zip(entries) {
            let (micros, errno) = slot.split_at_mut(4);
            micros.copy_from_slice(&entry.micros.to_le_bytes());
            errno.copy_from_slice(&entry.errno.to_le_bytes());
            count += 1;
        }
        head[24..32].copy_from_slice(&(count as u64).to_le_bytes());
        front.copy_from_slice(&head);
        out.split_at(HEAD_LEN + count * ENTRY_LEN).0
    }

    /// Reads a reply; `None` when it is not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, impl Iterator<Item = CallResult>)> {
        let (code, rest) = take_u32(bytes)?;
        let (index, rest) = take_u32(rest)?;
        let (errno, rest) = take_u32(rest)?;
        let (left, rest) = take_u32(rest)?;
        let (micros, rest) = take_u64(rest)?;
        let (count, rest) = take_u64(rest)?;
        if count > MAX_TARGETS as u64 || rest.len() as u64 != count * ENTRY_LEN as u64 {
            return None;
        }
        let head = Self {
            kind: ReplyKind::ALL.iter().find(|(_, known)| *known == code)?.0,
            index: index as usize,
            errno: errno.cast_signed(),
            left,
            since_order: Duration::from_micros(micros),
        };
        let entries = rest.chunks_exact(ENTRY_LEN).filter_map(|slot| {
            let (micros, rest) = take_u32(slot)?;
            let (errno, _) = take_u32(rest)?;
            Some(CallResult {
                micros,
                errno: errno.cast_signed(),
            })
        });
        Some((head, entries))
    }
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*word), rest))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reply_comes_back_as_it_was_sent() {
        let head = ReplyHead {
            kind: ReplyKind::Failed,
            index: 3,
            errno: -7,
            left: 2,
            since_order: Duration::from_micros(1_234_567),
        };
        let entries = (0..MAX_TARGETS).map(|i| CallResult {
            micros: i as u32,
            errno: -(i as i32),
        });
        let mut buffer = [0; MAX_REPLY];
        let sent = head.encode(entries.clone(), &mut buffer).to_vec();
        assert_eq!(sent.len(), MAX_REPLY);
        let (back, got) = ReplyHead::decode(&sent).unwrap();
        assert_eq!(back, head);
        assert!(got.eq(entries));
        for cut in 0..HEAD_LEN + 9 {
            assert!(
                ReplyHead::decode(&sent[..cut]).is_none(),
                "{cut} bytes decoded"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_means_what_it_says(
            at in 0..300_usize,
            garbage in prop::collection::vec(any::<u8>(), 0..40),
            cut in 0..300_usize,
        ) {
            let entry = CallResult { micros: 1, errno: -2 };
            let head = ReplyHead {
                kind: ReplyKind::Frozen,
                index: 3,
                errno: -7,
                left: 2,
                since_order: Duration::from_micros(1_234_567),
            };
            let mut buffer = [0; MAX_REPLY];
            let reply = head.encode([entry; 5].into_iter(), &mut buffer).to_vec();
            for mut sent in [reply, Vec::new()] {
                let at = at.min(sent.len());
                let end = (at + garbage.len()).min(sent.len());
                sent.splice(at..end, garbage.iter().copied());
                sent.truncate(cut.max(garbage.len()));
                if let Some((back, entries)) = ReplyHead::decode(&sent) {
                    let mut buffer = [0; MAX_REPLY];
                    prop_assert_eq!(back.encode(entries, &mut buffer), &sent[..]);
                }
                if let Some(order) = Order::decode(&sent) {
                    prop_assert_eq!(&order.encode()[..], &sent[..]);
                }
            }
        }
    }
}
