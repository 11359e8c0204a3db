//! Answers to requests. What is read is read in pieces, so that no request takes much memory; each
//! read ends in time, whatever the vault does.

use super::handshake::{ALLOCATION_ID, Agreed, MOST_REQUEST};
use super::heard::{Gone, Heard};
use super::protocol::*;
use super::socket::ClientSocket;
use super::trouble::Troubles;
use crate::error::{Error, ErrorKind, Result};
use crate::export::image::Allocation;
use crate::export::nbd_disk::{NbdDisk, ReadPiece};
use crate::model::{Bytes, Extent, clip};
use crate::sys::locked::LockExt;
use std::sync::Mutex;
use std::time::Duration;

/// What is read, and sent, in one piece.
pub const PIECE: u64 = 256 << 10;
/// How long a read waits for the vault. The kernel's own client gives up after 30 s at the
/// earliest, if it was told to.
const VAULT_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may take no byte of an answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(300);
/// Most runs in one answer to what is data.
const MOST_RUNS: usize = 4096;
/// Most bytes of a sentence that goes with an error.
const MOST_WORDS: usize = 1000;

/// Answers one client.
pub struct NbdAnswers<'a> {
    socket: &'a ClientSocket,
    disk: &'a NbdDisk,
    style: HeaderStyle,
    tells_allocation: bool,
    troubles: &'a Troubles,
    /// Held while one chunk is written.
    turn: Mutex<()>,
}

/// A request, and what has become of what it brought along.
pub struct HeardRequest {
    pub request: NbdRequest,
    pub payload: Payload,
}

/// What a request brought along.
pub enum Payload {
    /// Nothing that is wanted.
    None,
    /// It is in the thread's room.
    InRoom,
    /// It was written as it came, or not.
    Written(Result<(), NbdRefusal>),
}

/// Why a request is not done.
pub struct NbdRefusal {
    errno: u32,
    why: String,
    /// Where, if it is about one place.
    offset: Option<u64>,
}

impl NbdRefusal {
    fn new(errno: u32, why: &str) -> Self {
        Self {
            errno,
            why: why.into(),
            offset: None,
        }
    }
}

impl<'a> NbdAnswers<'a> {
    /// Of a client with whom this was agreed.
    pub fn new(socket: &'a ClientSocket, agreed: &'a Agreed, troubles: &'a Troubles) -> Self {
        Self {
            socket,
            disk: &agreed.disk,
            style: agreed.style,
            tells_allocation: agreed.tells_allocation,
            troubles,
            turn: Mutex::default(),
        }
    }

    /// Answers a request. `room` has what it brought along, and is used for what is read.
    pub fn answer(&self, heard: HeardRequest, room: &mut Vec<u8>) -> Heard<()> {
        let HeardRequest { request, payload } = heard;
        if let Some(refusal) = self.refused(&request) {
            return self.say_no(&request, &refusal);
        }
        let place = Extent::new(Bytes(request.offset), Bytes(request.length));
        match request.command {
            CMD_READ => match self.style {
                HeaderStyle::Simple => self.read_at_once(&request, room),
                _ => self.read_in_chunks(&request, room),
            },
            CMD_BLOCK_STATUS => self.block_status(&request),
            CMD_CACHE => {
                // What cannot be got says so when it is read.
                let _ = self.disk.image.get_ahead(place);
                self.say(&request, Ok(()))
            }
            _ => {
                let change = || self.change(&request, payload, place, room);
                let done = self.troubles.timed(change);
                let lasts = request.flags & CMD_FLAG_FUA != 0 || request.command == CMD_FLUSH;
                let done = done.and_then(|()| match lasts {
                    true => self.disk.flush().map_err(|error| self.failed(&error)),
                    false => Ok(()),
                });
                self.say(&request, done)
            }
        }
    }

    fn change(
        &self,
        request: &NbdRequest,
        payload: Payload,
        place: Extent,
        room: &[u8],
    ) -> Result<(), NbdRefusal> {
        let done = match (request.command, payload) {
            (CMD_WRITE, Payload::Written(written)) => return written,
            (CMD_WRITE, _) => self.disk.write(place.offset, room, VAULT_PATIENCE),
            (CMD_WRITE_ZEROES, _) => {
                let keep_room = request.flags & CMD_FLAG_NO_HOLE != 0;
                let socket = self.socket;
                self.disk
                    .zero(place, keep_room, VAULT_PATIENCE, &|| socket.refuse_gone())
            }
            (CMD_TRIM, _) => self.disk.trim(place),
            // A flush.
            _ => Ok(()),
        };
        done.map_err(|error| self.failed(&error))
    }

    /// Writes a part of what a long request brings along.
    pub fn write_part(
        &self,
        request: &NbdRequest,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), NbdRefusal> {
        match self.refused(request) {
            Some(refusal) => Err(refusal),
            None => {
                let written = self.disk.write(Bytes(at), bytes, VAULT_PATIENCE);
                written.map_err(|error| self.failed(&error))
            }
        }
    }

    fn say(&self, request: &NbdRequest, done: Result<(), NbdRefusal>) -> Heard<()> {
        match done {
            Ok(()) => self.say_yes(request),
            Err(refusal) => self.say_no(request, &refusal),
        }
    }

    /// Why a request cannot be done, as far as it can be told from itself.
    fn refused(&self, request: &NbdRequest) -> Option<NbdRefusal> {
        let writes = matches!(request.command, CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES);
        if writes && !self.disk.is_writable() {
            return Some(NbdRefusal::new(EPERM, "the disk is read-only"));
        }
        let known = match request.command {
            CMD_READ if self.style != HeaderStyle::Simple => CMD_FLAG_DF,
            CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
            // With extended headers it may say that it brings something along.
            CMD_WRITE if self.style == HeaderStyle::Extended => CMD_FLAG_PAYLOAD_LEN,
            CMD_WRITE_ZEROES => CMD_FLAG_NO_HOLE,
            CMD_READ | CMD_WRITE | CMD_TRIM | CMD_FLUSH | CMD_CACHE => 0,
            _ => return Some(NbdRefusal::new(EINVAL, "this server knows no such command")),
        };
        // It says of a request that changes nothing that it shall last.
        let known = known | CMD_FLAG_FUA;
        if request.flags & !known != 0 {
            return Some(NbdRefusal::new(EINVAL, "flags that were not agreed on"));
        }
        if request.command == CMD_FLUSH {
            return None;
        }
        let end = request.offset.checked_add(request.length);
        if end.is_none_or(|end| end > self.disk.size().0) {
            let errno = if writes { ENOSPC } else { EINVAL };
            return Some(NbdRefusal::new(errno, "it is not all within the disk"));
        }
        // All of it is read before a byte is sent.
        let is_too_long = request.length > u64::from(MOST_REQUEST);
        if request.command == CMD_READ && self.style == HeaderStyle::Simple && is_too_long {
            return Some(NbdRefusal::new(EINVAL, "longer than was agreed on"));
        }
        let may_be_empty = writes || request.command == CMD_CACHE;
        if request.length == 0 && !may_be_empty {
            return Some(NbdRefusal::new(EINVAL, "nothing was asked for"));
        }
        if request.command == CMD_BLOCK_STATUS && !self.tells_allocation {
            let why = "base:allocation was not agreed on";
            return Some(NbdRefusal::new(EINVAL, why));
        }
        let whole = request.flags & CMD_FLAG_DF != 0;
        if request.command == CMD_READ && whole && request.length > PIECE {
            return Some(NbdRefusal::new(EOVERFLOW, "too long for one piece"));
        }
        None
    }

    /// The pieces of what a request asks for.
    fn pieces(request: &NbdRequest) -> impl Iterator<Item = Extent> {
        let (mut at, end) = (request.offset, request.offset + request.length);
        std::iter::from_fn(move || {
            // Up to a border of pieces, so that blocks stay whole.
            let length = (PIECE - at % PIECE).min(end - at);
            let piece = Extent::new(Bytes(at), Bytes(length));
            at += length;
            (length > 0).then_some(piece)
        })
    }

    /// After the header of a simple reply no error can be told any more. So what does not fit into
    /// one piece is read twice.
    fn read_at_once(&self, request: &NbdRequest, room: &mut Vec<u8>) -> Heard<()> {
        let pieces: Vec<Extent> = Self::pieces(request).collect();
        let header = simple_reply(request, 0);
        for piece in &pieces {
            let read = match self.fetch(*piece, room) {
                Ok(read) => read,
                Err(error) => return self.say_no(request, &self.failed(&error)),
            };
            if pieces.len() == 1 {
                let _turn = self.turn.locked();
                return self.write(&[&header], &read);
            }
        }
        let _turn = self.turn.locked();
        self.socket.write(&[&header], CLIENT_PATIENCE)?;
        for piece in pieces {
            let read = self.fetch(piece, room).map_err(|_| Gone)?;
            self.write(&[], &read)?;
        }
        Ok(())
    }

    /// Says what was read, after something else.
    fn write(&self, before: &[&[u8]], read: &ReadPiece<'_>) -> Heard<()> {
        let all: Vec<&[u8]> = before.iter().copied().chain(read.slices()).collect();
        self.socket.write(&all, CLIENT_PATIENCE)
    }

    fn read_in_chunks(&self, request: &NbdRequest, room: &mut Vec<u8>) -> Heard<()> {
        let whole = request.flags & CMD_FLAG_DF != 0;
        let end = request.offset + request.length;
        let pieces: Box<dyn Iterator<Item = Extent>> = match whole {
            true => Box::new(std::iter::once(Extent::new(
                Bytes(request.offset),
                Bytes(request.length),
            ))),
            false => Box::new(Self::pieces(request)),
        };
        for piece in pieces {
            let is_last = piece.end().0 == end;
            let offset = piece.offset.0.to_be_bytes();
            if !whole && self.disk.is_zeros(piece) {
                // A piece is shorter than 4 GiB.
                let length = (piece.length.0 as u32).to_be_bytes();
                let hole = [&offset[..], &length].concat();
                self.chunk(request, REPLY_TYPE_OFFSET_HOLE, is_last, &[&hole])?;
                continue;
            }
            let read = match self.fetch(piece, room) {
                Ok(read) => read,
                Err(error) => return self.say_no(request, &self.failed(&error)),
            };
            let all: Vec<&[u8]> = [&offset[..]].into_iter().chain(read.slices()).collect();
            self.chunk(request, REPLY_TYPE_OFFSET_DATA, is_last, &all)?;
        }
        Ok(())
    }

    fn fetch<'r>(&self, piece: Extent, room: &'r mut Vec<u8>) -> Result<ReadPiece<'r>> {
        self.troubles
            .timed(|| self.disk.read(piece, room, VAULT_PATIENCE))
    }

    fn block_status(&self, request: &NbdRequest) -> Heard<()> {
        let one = request.flags & CMD_FLAG_REQ_ONE != 0;
        let place = Extent::new(Bytes(request.offset), Bytes(request.length));
        let most = if one { 1 } else { MOST_RUNS };
        let runs = match self.disk.allocation(place, most) {
            Ok(runs) => runs,
            Err(error) => return self.say_no(request, &self.failed(&error)),
        };
        let is_extended = self.style == HeaderStyle::Extended;
        let mut payload = ALLOCATION_ID.to_be_bytes().to_vec();
        if is_extended {
            payload.extend((runs.len() as u32).to_be_bytes());
        }
        for run in runs {
            let state = match run.kind {
                Allocation::Data => 0,
                Allocation::Zeros | Allocation::Free => STATE_HOLE | STATE_ZERO,
            };
            if is_extended {
                payload.extend(run.length.0.to_be_bytes());
                payload.extend(u64::from(state).to_be_bytes());
            } else {
                // A request says its length in 32 bits, and no run is longer.
                payload.extend((run.length.0 as u32).to_be_bytes());
                payload.extend(state.to_be_bytes());
            }
        }
        let kind = match is_extended {
            true => REPLY_TYPE_BLOCK_STATUS_EXT,
            false => REPLY_TYPE_BLOCK_STATUS,
        };
        self.chunk(request, kind, true, &[&payload])
    }

    /// What is told of an error of ours, here and to whoever watches the server.
    fn failed(&self, error: &Error) -> NbdRefusal {
        let why = error.to_string();
        // Whoever watches knows of a signal.
        if !matches!(error.kind(), ErrorKind::Interrupted(_)) {
            self.troubles.failed(error);
        }
        NbdRefusal {
            errno: match error.kind() {
                ErrorKind::NoSpace => ENOSPC,
                ErrorKind::Usage => EINVAL,
                _ => EIO,
            },
            offset: error.offset().map(|offset| offset.0),
            why,
        }
    }

    fn say_yes(&self, request: &NbdRequest) -> Heard<()> {
        match self.style {
            HeaderStyle::Simple => {
                let _turn = self.turn.locked();
                let header = simple_reply(request, 0);
                self.socket.write(&[&header], CLIENT_PATIENCE)
            }
            _ => self.chunk(request, REPLY_TYPE_NONE, true, &[]),
        }
    }

    fn say_no(&self, request: &NbdRequest, refusal: &NbdRefusal) -> Heard<()> {
        if self.style == HeaderStyle::Simple {
            let _turn = self.turn.locked();
            let header = simple_reply(request, refusal.errno);
            return self.socket.write(&[&header], CLIENT_PATIENCE);
        }
        let words = clip(&refusal.why, MOST_WORDS);
        let mut payload = refusal.errno.to_be_bytes().to_vec();
        payload.extend((words.len() as u16).to_be_bytes());
        payload.extend(words.as_bytes());
        let is_read = request.command == CMD_READ;
        let within = request.offset..request.offset.saturating_add(request.length);
        let place = refusal.offset.filter(|_| is_read);
        // The damaged block may begin before what was asked for.
        let place = place.map(|offset| offset.max(request.offset));
        let kind = match place.filter(|offset| within.contains(offset)) {
            Some(offset) => {
                payload.extend(offset.to_be_bytes());
                REPLY_TYPE_ERROR_OFFSET
            }
            None => REPLY_TYPE_ERROR,
        };
        self.chunk(request, kind, true, &[&payload])
    }

    /// Says one chunk of a reply, whose payload is in parts.
    fn chunk(
        &self,
        request: &NbdRequest,
        kind: u16,
        is_last: bool,
        payload: &[&[u8]],
    ) -> Heard<()> {
        let chunk = ReplyChunk {
            kind,
            is_last,
            length: payload.iter().map(|part| part.len() as u64).sum(),
        };
        let header = chunk.encode(request, self.style);
        let all: Vec<&[u8]> = [&header[..]].iter().chain(payload).copied().collect();
        let _turn = self.turn.locked();
        self.socket.write(&all, CLIENT_PATIENCE)
    }
}
