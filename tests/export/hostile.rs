//! Clients that send rubbish, stop in the middle, or say nothing at all: each costs itself.

use super::image::Stage;
use super::overlay::Written;
use super::server::Served;
use super::wire::{Client, STYLES, Style, WRITE, text};
use crate::support::model::Chance;
use crate::support::vaults::rounds;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillpoint::export::{Image, NbdLimits};
use stillpoint::store::{FaultStore, ObjectStore, Vault};

const HASTY: NbdLimits = NbdLimits {
    clients: 16,
    handshake: Duration::from_secs(2),
    arrival: Duration::from_secs(2),
};

/// A good client is served.
fn is_served(stage: &Stage, served: &Served) {
    let until = Instant::now() + Duration::from_secs(10);
    // Those before it have a moment to leave.
    let mut client = loop {
        if let Some(client) = Client::try_at(served, Style::Structured) {
            break client;
        }
        assert!(Instant::now() < until, "nobody is let in any more");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(client.read(0, 1000, 5000).unwrap() == stage.truth[1000..6000]);
}

fn rubbish(chance: &mut Chance, most: u64) -> Vec<u8> {
    let length = chance.below(most);
    (0..length).map(|_| chance.next() as u8).collect()
}

/// Says something wrong, and goes at any moment.
fn misbehave(served: &Served, chance: &mut Chance) {
    let Ok(mut stream) = UnixStream::connect(served.socket()) else {
        return;
    };
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    if chance.below(4) == 0 {
        let _ = stream.write_all(&rubbish(chance, 300));
        return;
    }
    if stream.read_exact(&mut [0; 18]).is_err() {
        return;
    }
    let _ = stream.write_all(&[0, 0, 0, chance.below(5) as u8]);
    let mut said = Vec::new();
    for _ in 0..chance.below(6) {
        let any = chance.next() as u32;
        let option = [1, 3, 5, 6, 7, 7, 8, 9, 10, 11, any][chance.below(11) as usize];
        let data = match chance.below(3) {
            0 => rubbish(chance, 200),
            1 => [&text(b"vda")[..], &rubbish(chance, 20)].concat(),
            _ => [&text(b"vda")[..], &[0, 0]].concat(),
        };
        let length = match chance.below(8) {
            0 => chance.next() as u32,
            _ => data.len() as u32,
        };
        said.extend(b"IHAVEOPT");
        said.extend(option.to_be_bytes());
        said.extend(length.to_be_bytes());
        said.extend(data);
    }
    for _ in 0..chance.below(6) {
        let magic: u32 = [0x2560_9513, 0x21e4_1c71][chance.below(2) as usize];
        said.extend(magic.to_be_bytes());
        said.extend((chance.next() as u16 & 0x3f).to_be_bytes());
        said.extend((chance.below(9) as u16).to_be_bytes());
        said.extend(chance.next().to_be_bytes());
        said.extend((chance.next() >> chance.below(64)).to_be_bytes());
        let length = chance.next() as u32 >> chance.below(32);
        if magic == 0x21e4_1c71 {
            said.extend([0; 4]);
        }
        said.extend(length.to_be_bytes());
    }
    let cut = chance.below(said.len() as u64 + 1) as usize;
    if chance.below(3) == 0 {
        said.truncate(cut);
    }
    let _ = stream.write_all(&said);
    if chance.below(2) == 0 {
        let _ = stream.read(&mut [0; 4096]);
    }
}

#[test]
fn rubbish_costs_only_who_sends_it() {
    let stage = Stage::new();
    let served = Served::with(vec![("vda", stage.image())], None, HASTY);
    let mut good = Client::at(&served, Style::Extended);
    for seed in 0..u64::from(60 * rounds()) {
        std::thread::scope(|scope| {
            for n in 0..8 {
                let served = &served;
                scope.spawn(move || misbehave(served, &mut Chance(seed * 8 + n + 1)));
            }
        });
        let at = seed as usize * 997;
        assert!(
            good.read(0, at as u64, 700).unwrap() == stage.truth[at..at + 700],
            "{seed}"
        );
    }
    is_served(&stage, &served);
}

#[test]
fn who_says_nothing_is_sent_away_and_makes_room() {
    let stage = Stage::new();
    let served = Served::with(vec![("vda", stage.image())], None, HASTY);
    let silent: Vec<UnixStream> = (0..16)
        .map(|_| UnixStream::connect(served.socket()).unwrap())
        .collect();
    is_served(&stage, &served);
    for mut stream in silent {
        let mut heard = Vec::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.read_to_end(&mut heard).unwrap();
    }
    let troubles = served.troubles.lock().unwrap().clone();
    assert!(
        troubles
            .iter()
            .any(|one| one.contains("more than 16 clients")),
        "{troubles:?}"
    );
}

#[test]
fn who_stops_in_the_middle_of_a_request_is_sent_away_and_who_waits_is_not() {
    let stage = Stage::new();
    let served = Served::with(vec![("vda", stage.image())], None, HASTY);
    let mut idle: Vec<Client> = STYLES.map(|style| Client::at(&served, style)).into();
    for style in STYLES {
        let mut client = Client::at(&served, style);
        client.say(&[0x25, 0x60]);
        assert!(client.is_over());
    }
    for client in &mut idle {
        assert!(client.read(0, 0, 512).unwrap() == stage.truth[..512]);
    }
}

#[test]
fn a_long_request_has_its_time_however_long_the_vault_takes() {
    let written = Written::new();
    let (stage, overlay) = (&written.stage, written.overlay);
    let slow: Arc<dyn ObjectStore> =
        Arc::new(FaultStore::new(stage.counted.clone(), |operation| {
            if !operation.done && operation.name.as_str().starts_with("segments/") {
                std::thread::sleep(Duration::from_millis(1500));
            }
            Ok(())
        }));
    let vault = Arc::new(Vault::open(slow).unwrap());
    let image = Image::open(&vault, &stage.record, &|| Ok(())).unwrap();
    let served = Served::writable_with("vda", image, overlay.unwrap(), HASTY);
    let mut client = Client::at(&served, Style::Structured);
    let bytes = vec![7; 600_000];
    // Its first bytes are a part of a grain: what the vault has beside them is needed.
    client.request(WRITE, 0, 700, bytes.len() as u64);
    client.say(&bytes[..300_000]);
    // The vault takes longer than a request may.
    std::thread::sleep(Duration::from_millis(3500));
    client.say(&bytes[300_000..]);
    assert_eq!(client.outcome(), 0);
    assert!(client.read(0, 700, 600_000).unwrap() == bytes);
}

#[test]
fn who_takes_no_answers_keeps_nobody_waiting() {
    let stage = Stage::new();
    let served = Served::with(vec![("vda", stage.image())], None, HASTY);
    let mut greedy: Vec<Client> = (0..8)
        .map(|_| Client::at(&served, Style::Structured))
        .collect();
    for client in &mut greedy {
        for _ in 0..64 {
            client.request(0, 0, 0, 1 << 20);
        }
    }
    let begun = Instant::now();
    for _ in 0..20 {
        is_served(&stage, &served);
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_ends_whatever_its_clients_do() {
    let stage = Stage::new();
    let mut served = Served::with(vec![("vda", stage.image())], None, HASTY);
    let idle = Client::at(&served, Style::Simple);
    let mut greedy = Client::at(&served, Style::Structured);
    for _ in 0..64 {
        greedy.request(0, 0, 0, 1 << 20);
    }
    let silent = UnixStream::connect(served.socket()).unwrap();
    let begun = Instant::now();
    served.end();
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    drop((idle, greedy, silent));
}
