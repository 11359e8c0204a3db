//! A thread that does what the kernel asks of disks: it reads the vault, lays over it what drivers
//! wrote, and answers. A failed read is an error for its range, and is told with disk and bytes.

use super::answers::WaitingReply;
use super::scratch::{LayerPlace, LayerTrouble, PAGE};
use super::served::Served;
use super::work::{Deed, Work};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Extent};
use crate::sys::locked::LockExt;
use crossbeam_channel::Receiver;
use fuser::Errno;

/// Runs as a reader until nobody sends work any more.
pub(super) fn run_reader(served: &Served, work: &Receiver<Work>) {
    while let Ok(work) = work.recv() {
        // Whoever waited for it has had an error by now.
        if served.answers.is_expected(work.name) {
            do_work(served, work);
        }
    }
}

fn do_work(served: &Served, work: Work) {
    let Work {
        name,
        disk,
        place,
        deed,
    } = work;
    let done = match &deed {
        Deed::Read { layer } => read(served, disk, place, *layer),
        Deed::Write { layer, data } => write(
            served,
            disk,
            place,
            WrittenData {
                layer: *layer,
                data,
            },
        )
        .map(|()| Vec::new()),
    };
    let waiting = served.answers.take(name);
    match (waiting, done) {
        (Some(WaitingReply::Read(reply)), Ok(bytes)) => reply.data(&bytes),
        (Some(WaitingReply::Write(reply)), Ok(_)) => reply.written(place.length.0 as u32),
        (waiting, Err(failed)) => {
            match &deed {
                Deed::Write { layer, .. } => served.give_up(*layer, &failed),
                Deed::Read { .. } if failed.kind() == ErrorKind::Inconsistent => {}
                Deed::Read { .. } => served.failures.tell_read(&failed),
            }
            let errno = match failed.kind() {
                ErrorKind::NoSpace => Errno::ENOSPC,
                _ => Errno::EIO,
            };
            match waiting {
                Some(WaitingReply::Read(reply)) => reply.error(errno),
                Some(WaitingReply::Write(reply)) => reply.error(errno),
                None => {}
            }
        }
        (None, Ok(_)) => {}
    }
}

fn read(served: &Served, disk: usize, place: Extent, layer: Option<u32>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; place.length.0 as usize];
    let image = served.image(disk).ok_or_else(no_disk)?;
    image.read_at(place.offset, &mut bytes)?;
    if let Some(layer) = layer {
        let at = place.offset;
        let scratch = served.scratch.locked();
        let laid = scratch.lay_over(LayerPlace { layer, disk, at }, &mut bytes);
        laid.map_err(not_kept)?;
    }
    Ok(bytes)
}

/// What is to be written.
#[derive(Clone, Copy)]
struct WrittenData<'a> {
    layer: u32,
    data: &'a [u8],
}

fn write(served: &Served, disk: usize, place: Extent, written: WrittenData<'_>) -> Result<()> {
    let WrittenData { layer, data } = written;
    let image = served.image(disk).ok_or_else(no_disk)?;
    let at = place;
    let cut = served
        .scratch
        .locked()
        .needs(LayerPlace { layer, disk, at });
    for at in cut {
        let start = at * PAGE;
        let mut bytes = vec![0; PAGE.min(image.size().0 - start) as usize];
        image.read_at(Bytes(start), &mut bytes)?;
        let page = LayerPlace { layer, disk, at };
        let mut scratch = served.scratch.locked();
        scratch.add(page, bytes).map_err(not_kept)?;
    }
    let at = place.offset;
    let mut scratch = served.scratch.locked();
    let wrote = scratch.write(LayerPlace { layer, disk, at }, data);
    wrote.map_err(not_kept)
}

fn not_kept(trouble: LayerTrouble) -> Error {
    match trouble {
        LayerTrouble::Full => {
            let what = "a filesystem's log is larger than what can be replayed in memory";
            Error::new(ErrorKind::NoSpace, what)
        }
        // It was told when that write failed.
        LayerTrouble::Broken => {
            let what = "a write to this copy of the filesystem is missing";
            Error::new(ErrorKind::Inconsistent, what)
        }
    }
}

fn no_disk() -> Error {
    Error::new(ErrorKind::Failed, "there is no such disk")
}
