//! A server that is killed at any moment, again and again: what a client's flush was told to be
//! there is there, and all else is as it was or as it was written.

use super::wire::{Client, WRITE};
use crate::support::cli::Cli;
use crate::support::model::Chance;
use crate::support::vaults::rounds;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

const VAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vault-v2");
const SNAPSHOT: &str = "01MCC5RM01FP7SC4M5YW833THK";
const SECTOR: u64 = 512;
const GRAIN: u64 = 4096;
const TRIM: u16 = 4;
const FLUSH: u16 = 3;

/// What a sector may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Snapshot,
    Zeros,
    /// What the write of this number put there.
    Written(u64),
}

/// A disk whose server is killed, and what each of its sectors may hold.
struct Mortal {
    cli: Cli,
    server: Child,
    truth: Vec<u8>,
    may_hold: Vec<Vec<Held>>,
    writes: u64,
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn start(cli: &Cli) -> Child {
    let listen = format!("unix:{}/s", cli.folder().display());
    let overlay = cli.folder().join("o");
    let overlay = overlay.to_str().unwrap();
    let args = ["serve", SNAPSHOT, "--vault", VAULT, "--disk", "vda"];
    let mut command = cli.command(&args);
    command.args(["--listen", &listen, "--overlay", overlay]);
    let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut said = BufReader::new(server.stdout.as_mut().unwrap());
    said.read_line(&mut first).unwrap();
    assert!(first.contains("writable"), "{first}");
    server
}

impl Mortal {
    fn new() -> Self {
        let cli = Cli::new();
        let restored = cli.folder().join("restored");
        let args = ["restore", SNAPSHOT, restored.to_str().unwrap()];
        let rest = ["--disk", "vda", "--vault", VAULT];
        cli.run(&[&args[..], &rest[..]].concat()).expect(0);
        let truth = fs::read(restored).unwrap();
        Self {
            server: start(&cli),
            may_hold: vec![vec![Held::Snapshot]; truth.len() / SECTOR as usize],
            truth,
            cli,
            writes: 0,
        }
    }

    fn socket(&self) -> PathBuf {
        self.cli.folder().join("s")
    }

    fn client(&self) -> Client {
        let mut client = Client::greeted(&self.socket(), 3);
        client.option(1, b"vda");
        client.take(10);
        client
    }

    /// What all sectors hold now; nothing else is possible any more.
    fn look(&mut self) {
        let mut client = self.client();
        let sectors = self.truth.chunks_exact(SECTOR as usize).enumerate();
        let part = 1 << 20;
        let mut found = Vec::new();
        while found.len() < self.truth.len() {
            let length = part.min(self.truth.len() - found.len());
            found.extend(client.read(0, found.len() as u64, length as u64).unwrap());
        }
        for (number, truth) in sectors {
            let sector = &found[number * SECTOR as usize..][..SECTOR as usize];
            let may = &mut self.may_hold[number];
            let fits = may.iter().position(|held| match held {
                Held::Snapshot => sector == truth,
                Held::Zeros => sector.iter().all(|byte| *byte == 0),
                Held::Written(write) => sector == bytes_of(*write),
            });
            let held = fits.unwrap_or_else(|| panic!("sector {number} is none of {may:?}"));
            *may = vec![may[held]];
        }
    }

    /// Works until the server is gone.
    fn work(&mut self, mut stream: UnixStream, chance: &mut Chance) {
        loop {
            if self.step(&mut stream, chance).is_none() {
                return;
            }
        }
    }

    /// One request and its answer. What is changed may be so from when it is asked for; what was
    /// answered before a flush is, once that is answered.
    fn step(&mut self, stream: &mut UnixStream, chance: &mut Chance) -> Option<()> {
        if chance.below(8) == 0 {
            request(stream, FLUSH, (0, 0), &[])?;
            for may in &mut self.may_hold {
                *may = vec![*may.last().unwrap()];
            }
            return Some(());
        }
        let size = self.truth.len() as u64;
        let length = SECTOR * [1, 3, 8, 24, 600][chance.below(5) as usize];
        let offset = chance.below((size - length) / SECTOR) * SECTOR;
        if chance.below(4) == 0 {
            // Whole grains, as each of them is given up or not.
            let start = offset / GRAIN * GRAIN;
            let end = (offset + length) / GRAIN * GRAIN;
            self.may_become(start..end.max(start), Held::Zeros);
            return request(stream, TRIM, (start, end.saturating_sub(start)), &[]);
        }
        self.writes += 1;
        self.may_become(offset..offset + length, Held::Written(self.writes));
        let bytes = bytes_of(self.writes).repeat((length / SECTOR) as usize);
        request(stream, WRITE, (offset, length), &bytes)
    }

    fn may_become(&mut self, place: Range<u64>, held: Held) {
        let sectors = (place.start / SECTOR) as usize..(place.end / SECTOR) as usize;
        for may in &mut self.may_hold[sectors] {
            may.push(held);
        }
    }
}

/// The bytes of a sector that a write has put there.
fn bytes_of(write: u64) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    for part in sector.chunks_exact_mut(8) {
        part.copy_from_slice(&write.to_le_bytes());
    }
    sector
}

/// Asks, and waits for the answer; `None`: nobody is there any more.
fn request(
    stream: &mut UnixStream,
    command: u16,
    (offset, length): (u64, u64),
    bytes: &[u8],
) -> Option<()> {
    let mut header = 0x2560_9513_u32.to_be_bytes().to_vec();
    header.extend([0, 0]);
    header.extend(command.to_be_bytes());
    header.extend(7_u64.to_be_bytes());
    header.extend(offset.to_be_bytes());
    header.extend((length as u32).to_be_bytes());
    header.extend(bytes);
    stream.write_all(&header).ok()?;
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).ok()?;
    assert_eq!(reply[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
    Some(())
}

#[test]
fn an_overlay_outlives_its_server_wherever_that_is_killed() {
    let mut disk = Mortal::new();
    let mut chance = Chance(77);
    let is_kept = |may: &&Vec<Held>| matches!(may[..], [Held::Written(_)]);
    let kept = |disk: &Mortal| disk.may_hold.iter().filter(is_kept).count();
    // On a busy host a server does little before it is killed: then there are more rounds.
    let few = |disk: &Mortal| disk.writes <= 100 || kept(disk) <= 100;
    let mut round = 0;
    while round < 12 * rounds() || (few(&disk) && round < 400) {
        round += 1;
        let pid = Pid::from_raw(disk.server.id().cast_signed());
        let after = Duration::from_micros(chance.below(120_000));
        // Served before it may be killed: on a busy host that takes as long as some of its lives.
        let stream = disk.client().stream;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(after);
                kill(pid, Signal::SIGKILL).unwrap();
            });
            disk.work(stream, &mut chance);
        });
        disk.server.wait().unwrap();
        disk.server = start(&disk.cli);
        disk.look();
    }
    assert!(
        !few(&disk),
        "{} writes, {} sectors",
        disk.writes,
        kept(&disk)
    );
}
