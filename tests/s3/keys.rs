//! Keys that end while a run is at work, from each source that hands out such: the run gets others
//! and goes on, also when the source is down in passing. A child of this process is the run, since
//! the SDK takes its settings from the environment.

use super::server::{SECRET, Server, place};
use crate::cli::lab::{PROGRAM, finish};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check_all, take, vault_options};
use jiff::Timestamp;
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stillpoint::format::SessionRecord;
use stillpoint::model::{BLOCK_SIZE, SnapshotId};
use stillpoint::store::{
    CredentialSource, ObjectName, ObjectStore, RetryPolicy, RetryStore, S3Store, Vault,
};

const ENDPOINT: &str = "STILLPOINT_KEYS_ENDPOINT";

/// Keys, and for how many requests each is good.
#[derive(Default)]
struct Keys {
    /// Those that were handed out.
    given: BTreeMap<String, Key>,
    /// Requests that each is good for.
    uses: u64,
    /// What a key claims of its life, in seconds.
    claimed: i64,
    /// After so many keys the source is down, for so many questions.
    outage: Option<(usize, u64)>,
    /// Requests that were refused.
    refused: u64,
}

/// One of them.
struct Key {
    /// Requests that are left.
    left: u64,
    /// When it ends.
    end: Instant,
}

/// Shared by the source of the keys and the store.
#[derive(Clone, Default)]
struct KeyRing(Arc<Mutex<Keys>>);

impl KeyRing {
    fn new(uses: u64, claimed: i64, outage: Option<(usize, u64)>) -> Self {
        let ring = Self::default();
        let mut keys = ring.0.lock().unwrap();
        (keys.uses, keys.claimed, keys.outage) = (uses, claimed, outage);
        drop(keys);
        ring
    }

    /// Another key, and until when it claims to be good; `None` in an outage.
    fn hand_out(&self) -> Option<(String, String)> {
        let mut keys = self.0.lock().unwrap();
        let given = keys.given.len();
        if let Some((after, questions)) = &mut keys.outage
            && given >= *after
            && *questions > 0
        {
            *questions -= 1;
            return None;
        }
        let key = format!("AKKEY{given}");
        let one = Key {
            left: keys.uses,
            end: Instant::now() + Duration::from_secs(keys.claimed.unsigned_abs()),
        };
        keys.given.insert(key.clone(), one);
        let end = Timestamp::now() + jiff::SignedDuration::from_secs(keys.claimed);
        Some((key, end.strftime("%FT%TZ").to_string()))
    }

    fn secret(&self, key: &str) -> S3Result<SecretKey> {
        let mut keys = self.0.lock().unwrap();
        let Some(one) = keys.given.get_mut(key) else {
            return Err(s3_error!(InvalidAccessKeyId));
        };
        if one.left == 0 || one.end < Instant::now() {
            keys.refused += 1;
            return Err(s3_error!(ExpiredToken));
        }
        one.left -= 1;
        Ok(SecretKey::from(SECRET))
    }

    /// How many keys were given, and how many requests were refused.
    fn counts(&self) -> (usize, u64) {
        let keys = self.0.lock().unwrap();
        (keys.given.len(), keys.refused)
    }
}

impl S3Auth for KeyRing {
    fn get_secret_key<'a, 'b, 'c>(
        &'a self,
        key: &'b str,
    ) -> Pin<Box<dyn Future<Output = S3Result<SecretKey>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(ready(self.secret(key)))
    }
}

/// What hands out keys over HTTP: a container's endpoint, an instance's metadata, or STS.
struct Source {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Source {
    fn start(ring: &KeyRing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (ring, has_ended) = (ring.clone(), Arc::clone(&ended));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if has_ended.load(Ordering::SeqCst) {
                    return;
                }
                // A client that breaks its connection is a client of these tests.
                let _ = answer(&ring, connection);
            }
        });
        Self { address, ended }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that listens.
        let _ = TcpStream::connect(self.address);
    }
}

/// Reads one request and answers it.
fn answer(ring: &KeyRing, mut connection: TcpStream) -> std::io::Result<()> {
    let mut reading = BufReader::new(connection.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    reading.read_line(&mut line)?;
    let first = line.clone();
    while line.trim_end() != "" {
        line.clear();
        reading.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    reading.read_exact(&mut vec![0; length])?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, path) {
        // The token by which an instance's metadata are asked for, and the role's name.
        ("PUT", _) => (200, "text/plain", "token".to_owned()),
        ("GET", path) if path.ends_with("/security-credentials/") => {
            (200, "text/plain", "role".to_owned())
        }
        _ => match (ring.hand_out(), method) {
            (None, "POST") => (500, "text/xml", TROUBLE.to_owned()),
            (None, _) => (500, "text/plain", "the test says so".to_owned()),
            (Some((key, end)), "POST") => (200, "text/xml", assumed(&key, &end)),
            (Some((key, end)), _) => (200, "application/json", given(&key, &end)),
        },
    };
    write!(
        connection,
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 600\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn given(key: &str, end: &str) -> String {
    format!(
        "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\
         \"AccessKeyId\":\"{key}\",\"SecretAccessKey\":\"{SECRET}\",\"Token\":\"of {key}\",\
         \"Expiration\":\"{end}\"}}"
    )
}

/// As STS says that it has trouble.
const TROUBLE: &str = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
                       <Type>Receiver</Type><Code>InternalFailure</Code>\
                       <Message>the test says so</Message></Error></ErrorResponse>";

fn assumed(key: &str, end: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{key}</AccessKeyId>\
         <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>of {key}</SessionToken>\
         <Expiration>{end}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    )
}

/// The settings by which a program finds a source.
fn environment(source: &Source, kind: &str, folder: &Path) -> Vec<(&'static str, String)> {
    let url = source.url();
    let token = folder.join("token");
    std::fs::write(&token, "a token of the test").unwrap();
    let token = token.to_str().unwrap().to_owned();
    match kind {
        "container" => vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/keys")),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ],
        "instance" => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)],
        _ => vec![
            ("AWS_ENDPOINT_URL_STS", url),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/test".into()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ],
    }
}

/// Nothing of this host's own settings.
fn plain(command: &mut Command) -> &mut Command {
    command
        .env_clear()
        .env("AWS_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
}

/// The child of the tests below: does nothing when it is run as a test of its own. It takes
/// snapshots, and uses every kind of request.
#[test]
fn a_run_whose_keys_end_child() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else {
        return;
    };
    let mut place = place(&endpoint, Path::new("/nowhere"), "vault");
    place.settings.credentials = CredentialSource::Usual;
    let policy = RetryPolicy {
        longest_pause: Duration::from_secs(1),
        ..RetryPolicy::DISTANT
    };
    let store = RetryStore::new(Arc::new(S3Store::open(place).unwrap()), policy);
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let vault = Arc::new(Vault::create(Arc::clone(&store), vault_options()).unwrap());
    let disks = [ModelDisk::new(0, 40 * BLOCK_SIZE, 3)];
    let mut all = Vec::new();
    for round in 0..4 {
        disks[0].write(0, &[round + 1; 3 * BLOCK_SIZE as usize]);
        let record = SessionRecord {
            host: "host".into(),
            pid: 1,
            boot_id: "boot".into(),
            command: "snapshot".into(),
            started: Timestamp::now(),
            heartbeat: Timestamp::now(),
        };
        let run = SnapshotId::generate(1_800_000_000_000 + u64::from(round));
        let options = Take {
            session: Some(vault.begin_session(run, record).unwrap()),
            ..Take::default()
        };
        all.push(take(&vault, &disks, options).unwrap());
    }
    check_all(&vault, &all);
    // What was not there before a key ended is not taken for there, and not for missing either.
    let (there, missing) = (
        ObjectName::vault_info(),
        ObjectName::parse("index/x").unwrap(),
    );
    for _ in 0..20 {
        assert!(store.size(&there).unwrap() > 0);
        let error = store.size(&missing).unwrap_err();
        assert_eq!(error.kind(), stillpoint::ErrorKind::NotFound, "{error}");
    }
    assert!(store.list_all(&ObjectName::sessions()).unwrap().is_empty());
}

/// A run with keys of this kind.
fn outlives(ring: &KeyRing, kind: &str) {
    let server = Server::start_with(ring.clone());
    let source = Source::start(ring);
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = plain(&mut command)
        .envs(environment(&source, kind, folder.path()))
        .env(ENDPOINT, &server.endpoint)
        .args(["s3::keys::a_run_whose_keys_end_child", "--exact"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{kind}: {output:?}");
    assert!(!format!("{output:?}").contains(SECRET), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("1 passed"), "{said}");
}

/// They say when they end: no request is made with one that has ended.
#[test]
fn keys_that_end_within_seconds_are_renewed_in_time() {
    for kind in ["container", "web identity"] {
        let ring = KeyRing::new(u64::MAX, 3, None);
        outlives(&ring, kind);
        let (given, refused) = ring.counts();
        assert!(given > 3 && refused == 0, "{kind}: {given} {refused}");
    }
}

/// They end long before the time that they say: the store's refusal is the first that is heard.
#[test]
fn keys_that_the_store_takes_no_longer_are_renewed() {
    for kind in ["container", "instance", "web identity"] {
        // The source is down when the third is asked for: three tries of the SDK, and one more.
        let ring = KeyRing::new(40, 3600, Some((2, 4)));
        outlives(&ring, kind);
        let (given, refused) = ring.counts();
        assert!(given > 3 && refused > 2, "{kind}: {given} {refused}");
    }
}

#[test]
fn a_source_that_stays_down_is_told() {
    let ring = KeyRing::new(100, 3600, Some((0, u64::MAX)));
    let server = Server::start_with(ring.clone());
    let source = Source::start(&ring);
    for kind in ["container", "instance", "web identity"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        plain(&mut command)
            .envs(environment(&source, kind, folder.path()))
            .env("AWS_ENDPOINT_URL_S3", &server.endpoint)
            .env("STILLPOINT_CONFIG_DIR", "/nowhere")
            .env("STILLPOINT_CACHE_DIR", "/proc/nowhere")
            .args(["list", "--json", "--vault", "s3://bucket/x"]);
        let run = finish(&mut command).expect(1);
        let error = run.json()["error"].clone();
        assert_eq!(error["kind"], "io", "{kind}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("credentials"), "{kind}: {message}");
        let why = ["500", "InternalFailure"];
        let says_why = why.iter().any(|why| message.contains(why));
        assert!(says_why, "{kind}: {message}");
        assert!(message.contains("tried 3 times"), "{kind}: {message}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("source of the credentials"), "{hint}");
    }
}
