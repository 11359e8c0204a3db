//! One client's requests. A few threads take turns: one listens, the others answer. A request that
//! is wrong, or cannot be answered, gets an error; only what cannot be understood ends the
//! connection. It must never hand out a byte that was not checked.

use super::answer::NbdAnswers;
use super::handshake::{Agreed, MOST_REQUEST, shake_hands};
use super::limits::NbdLimits;
use super::protocol::*;
use super::socket::{ClientSocket, Gone, Heard};
use super::trouble::Troubles;
use crate::export::nbd_disk::NbdDisk;
use crate::sys::locked::LockExt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

/// Most requests of one client that are answered at once.
pub const MOST_AT_ONCE: usize = 8;
/// Most bytes that are read over at once, of what a client sends and nobody wants.
const UNWANTED: usize = 64 << 10;

/// Talks with a client until it is gone.
pub fn serve_client(
    socket: &ClientSocket,
    disks: &[Arc<NbdDisk>],
    limits: NbdLimits,
    troubles: &Troubles,
) {
    let Ok(agreed) = shake_hands(socket, disks, limits.handshake) else {
        socket.end();
        return;
    };
    let talk = ClientTalk {
        answers: NbdAnswers::new(socket, &agreed, troubles),
        agreed: &agreed,
        socket,
        arrival: limits.arrival,
        turn: Mutex::new(false),
        threads: AtomicUsize::new(1),
        busy: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| talk.work(scope));
    socket.end();
}

struct ClientTalk<'a> {
    answers: NbdAnswers<'a>,
    agreed: &'a Agreed,
    socket: &'a ClientSocket,
    /// How long a request may take to arrive once its first byte has.
    arrival: Duration,
    /// Held by the thread that listens; true: there is nothing more to hear.
    turn: Mutex<bool>,
    threads: AtomicUsize,
    /// How many answer.
    busy: AtomicUsize,
}

impl<'a> ClientTalk<'a> {
    /// What each thread does: it listens, and answers what it has heard while others listen.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        loop {
            let mut over = self.turn.locked();
            if *over {
                return;
            }
            let heard = self.hear();
            *over = heard.is_err();
            drop(over);
            let Ok(heard) = heard else {
                return;
            };
            let busy = self.busy.fetch_add(1, Ordering::AcqRel) + 1;
            self.have_a_listener(busy, scope);
            let said = self.answers.answer(&heard);
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
        let threads = self.threads.load(Ordering::Acquire);
        if busy < threads || threads >= MOST_AT_ONCE {
            return;
        }
        let thread = Builder::new().name("nbd".into());
        if thread.spawn_scoped(scope, || self.work(scope)).is_ok() {
            self.threads.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The next request, whose payload nobody wants here.
    fn hear(&self) -> Heard<NbdRequest> {
        let style = self.agreed.style;
        let mut header = [0; 32];
        let header = &mut header[..style.request_length()];
        self.socket.wait()?;
        let until = Instant::now() + self.arrival;
        self.socket.read(header, until)?;
        let request = NbdRequest::decode(header, style).ok_or(Gone)?;
        match request.command {
            CMD_DISC => Err(Gone),
            CMD_WRITE => {
                self.read_over(request.length, until)?;
                Ok(request)
            }
            // No other command may have a payload here; this one claims to.
            _ if request.flags & CMD_FLAG_PAYLOAD_LEN != 0 => {
                self.read_over(request.length, until)?;
                Ok(request)
            }
            _ => Ok(request),
        }
    }

    /// Reads over what a client sends and nobody wants, so that the next request is understood.
    fn read_over(&self, length: u64, until: Instant) -> Heard<()> {
        if length > u64::from(MOST_REQUEST) {
            return Err(Gone);
        }
        let mut unwanted = vec![0; UNWANTED.min(length as usize)];
        let mut left = length as usize;
        while left > 0 {
            let part = left.min(unwanted.len());
            self.socket.read(&mut unwanted[..part], until)?;
            left -= part;
        }
        Ok(())
    }
}
