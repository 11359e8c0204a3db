//! One client's requests. A few threads take turns: one listens, the others answer. A request that
//! is wrong, or cannot be answered, gets an error; only what cannot be understood ends the
//! connection. It must never hand out a byte that was not checked.

use super::answer::{HeardRequest, NbdAnswers, PIECE, Payload};
use super::handshake::{Agreed, MOST_REQUEST, ServedThings, shake_hands};
use super::heard::{Gone, Heard};
use super::limits::NbdLimits;
use super::protocol::*;
use super::socket::ClientSocket;
use super::trouble::Troubles;
use crate::sys::locked::LockExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

/// Most requests of one client that are answered at once.
pub const MOST_AT_ONCE: usize = 8;

/// Talks with a client until it is gone.
pub fn serve_client(socket: &ClientSocket, served: &ServedThings<'_>, limits: NbdLimits) {
    let Ok(agreed) = shake_hands(socket, served, limits.handshake) else {
        socket.say_goodbye();
        return;
    };
    let troubles = served.troubles;
    let talk = ClientTalk {
        answers: NbdAnswers::new(socket, &agreed, troubles),
        agreed: &agreed,
        socket,
        troubles,
        arrival: limits.arrival,
        turn: Mutex::new(false),
        threads: AtomicUsize::new(1),
        busy: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| talk.work(scope));
    socket.say_goodbye();
}

struct ClientTalk<'a> {
    answers: NbdAnswers<'a>,
    agreed: &'a Agreed,
    socket: &'a ClientSocket,
    troubles: &'a Troubles,
    /// How long a request may take to arrive once its first byte has.
    arrival: Duration,
    /// Held by the thread that listens; true: there is nothing more to hear.
    turn: Mutex<bool>,
    threads: AtomicUsize,
    /// How many answer.
    busy: AtomicUsize,
}

/// Ends a connection when one of its threads panics: a request that is never answered is worse.
struct EndsIfPanicked<'a> {
    socket: &'a ClientSocket,
    troubles: &'a Troubles,
}

impl Drop for EndsIfPanicked<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.socket.end();
            let what = "a client was sent away, as its thread panicked: this is a bug";
            self.troubles.tell(what);
        }
    }
}

impl<'a> ClientTalk<'a> {
    /// What each thread does: it listens, and answers what it has heard while others listen.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let _ends = EndsIfPanicked {
            socket: self.socket,
            troubles: self.troubles,
        };
        let mut room = Vec::new();
        loop {
            let mut over = self.turn.locked();
            if *over {
                return;
            }
            let heard = self.hear(&mut room);
            *over = heard.is_err();
            drop(over);
            let Ok(heard) = heard else {
                return;
            };
            let busy = self.busy.fetch_add(1, Ordering::AcqRel) + 1;
            self.have_a_listener(busy, scope);
            let said = self.answers.answer(heard, &mut room);
            self.busy.fetch_sub(1, Ordering::AcqRel);
            if said.is_err() {
                // Whoever listens is told.
                self.socket.end();
                return;
            }
        }
    }

    /// Starts another thread when all are busy, as far as there may be more.
    fn have_a_listener<'s>(&'s self, busy: usize, scope: &'s Scope<'s, '_>) {
        let one_more = |threads| (busy >= threads && threads < MOST_AT_ONCE).then_some(threads + 1);
        let (order, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        if self.threads.fetch_update(order, fetch, one_more).is_err() {
            return;
        }
        let thread = Builder::new().name("nbd".into());
        if thread.spawn_scoped(scope, || self.work(scope)).is_err() {
            self.threads.fetch_sub(1, order);
        }
    }

    /// The next request. What it brings along is in `room`, or was dealt with.
    fn hear(&self, room: &mut Vec<u8>) -> Heard<HeardRequest> {
        let style = self.agreed.style;
        let mut header = [0; 32];
        let header = &mut header[..style.request_length()];
        self.socket.read_next(header, self.arrival)?;
        let request = NbdRequest::decode(header, style).ok_or(Gone)?;
        // With extended headers a write has to say so; QEMU's does not, and brings them along.
        let brings_bytes = request.command == CMD_WRITE
            || style == HeaderStyle::Extended && request.flags & CMD_FLAG_PAYLOAD_LEN != 0;
        let payload = match request.command {
            CMD_DISC => return Err(Gone),
            _ if brings_bytes => self.hear_bytes(&request, room)?,
            _ => Payload::None,
        };
        Ok(HeardRequest { request, payload })
    }

    /// Takes what a request brings along, whether it is wanted or not, so that the next request is
    /// understood. What is too long for `room` is written as it comes.
    fn hear_bytes(&self, request: &NbdRequest, room: &mut Vec<u8>) -> Heard<Payload> {
        if request.length > u64::from(MOST_REQUEST) {
            return Err(Gone);
        }
        let is_short = request.length <= PIECE;
        let mut written = Ok(());
        let mut at = request.offset;
        let mut left = request.length;
        // What was in it belongs to another request.
        room.clear();
        while left > 0 {
            // Up to a border of pieces, so that what is written whole stays whole.
            let length = match is_short {
                true => left,
                false => left.min(PIECE - at % PIECE),
            };
            room.resize(length as usize, 0);
            // Each piece has its time: a long request may come by a slow way.
            self.socket.read(room, Instant::now() + self.arrival)?;
            // Another command may bring nothing along here: it is refused, whatever it claims.
            if !is_short && written.is_ok() && request.command == CMD_WRITE {
                written = self.answers.write_part(request, at, room);
            }
            at = at.saturating_add(length);
            left -= length;
        }
        Ok(match is_short {
            true => Payload::InRoom,
            false => Payload::Written(written),
        })
    }
}
