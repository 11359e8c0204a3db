//! A thread that does what the kernel asks of disks: it reads the vault, lays over it what drivers
//! wrote, and answers. A failed read is an error for its range, and is told with disk and bytes.

use super::answers::WaitingReply;
use super::scratch::PAGE;
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
        Deed::Read { overlay } => read(served, disk, place, *overlay),
        Deed::Write(data) => write(served, disk, place, data).map(|()| Vec::new()),
    };
    match (served.answers.take(name), done) {
        (Some(WaitingReply::Read(reply)), Ok(bytes)) => reply.data(&bytes),
        (Some(WaitingReply::Write(reply)), Ok(_)) => reply.written(place.length.0 as u32),
        (waiting, Err(error)) => {
            served.failures.tell(&error.to_string());
            let errno = match error.kind() {
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

fn read(served: &Served, disk: usize, place: Extent, overlay: bool) -> Result<Vec<u8>> {
    let mut bytes = vec![0; place.length.0 as usize];
    let image = served.image(disk).ok_or_else(no_disk)?;
    image.read_at(place.offset, &mut bytes)?;
    if overlay {
        let scratch = served.scratch.locked();
        scratch.lay_over(disk, place.offset, &mut bytes);
    }
    Ok(bytes)
}

fn write(served: &Served, disk: usize, place: Extent, data: &[u8]) -> Result<()> {
    let image = served.image(disk).ok_or_else(no_disk)?;
    let full = |_| {
        let what = "a filesystem's log is larger than what can be replayed in memory";
        Error::new(ErrorKind::NoSpace, what)
    };
    let cut = served.scratch.locked().needs(disk, place);
    for page in cut {
        let start = page * PAGE;
        let mut bytes = vec![0; PAGE.min(image.size().0 - start) as usize];
        image.read_at(Bytes(start), &mut bytes)?;
        served
            .scratch
            .locked()
            .add(disk, page, bytes)
            .map_err(full)?;
    }
    let mut scratch = served.scratch.locked();
    scratch.write(disk, place.offset, data).map_err(full)
}

fn no_disk() -> Error {
    Error::new(ErrorKind::Failed, "there is no such disk")
}
