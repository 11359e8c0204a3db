//! Memory that is used again and again: what is new each time the kernel has to clear first. It
//! must never be a place where more waits than it was made for: what is too much is given back.

use crossbeam_channel::{Receiver, Sender, bounded};

/// A stock of buffers. Clones share it.
pub(super) struct Spare<T> {
    give: Sender<T>,
    take: Receiver<T>,
}

impl<T: Default> Spare<T> {
    /// An empty stock, with room for `most`.
    pub(super) fn new(most: usize) -> Self {
        let (give, take) = bounded(most);
        Self { give, take }
    }

    /// A buffer as it was given back, or a new one.
    pub(super) fn take(&self) -> T {
        self.take.try_recv().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: T) {
        // No room: it goes back to the kernel.
        let _ = self.give.try_send(buffer);
    }

    /// Gives all that is not in use back to the kernel.
    pub(super) fn clear(&self) {
        self.take.try_iter().for_each(drop);
    }
}

impl<T> Clone for Spare<T> {
    fn clone(&self) -> Self {
        Self {
            give: self.give.clone(),
            take: self.take.clone(),
        }
    }
}

/// A finished segment on its way to the vault; its memory comes back to the stock when nobody holds
/// it any more.
pub(super) struct Lent {
    bytes: Vec<u8>,
    home: Spare<Vec<u8>>,
}

impl Lent {
    pub(super) fn new(bytes: Vec<u8>, home: &Spare<Vec<u8>>) -> Self {
        let home = home.clone();
        Self { bytes, home }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn memory_comes_back_when_the_last_holder_lets_go() {
        let spare = Spare::new(1);
        let bytes = vec![7; 100];
        let at = bytes.as_ptr();
        let blob = Bytes::from_owner(Lent::new(bytes, &spare));
        let part = blob.slice(10..20);
        drop(blob);
        assert!(spare.take().is_empty(), "somebody still reads it");
        assert_eq!(part, [7; 10][..]);
        drop(part);
        let again = spare.take();
        assert_eq!((again.as_ptr(), again.len()), (at, 100));
        spare.give(again);
        spare.give(vec![1]);
        assert_eq!(spare.take().len(), 100, "there is room for one alone");
        spare.give(vec![1]);
        spare.clear();
        assert!(spare.take().is_empty());
    }
}
