//! An instance that has a role: its region and its credentials come from its metadata service, and
//! nothing else is set.

use super::server::{KEY, SECRET, Server};
use crate::cli::lab::{PROGRAM, Run, finish};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers as the metadata service of an instance does, and refuses to be a proxy.
struct Metadata {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Metadata {
    /// Its credentials are valid for so long from each answer on. Its thread ends with the process.
    fn start(valid: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, valid, &seen);
            }
        });
        Self { address, asked }
    }

    /// How many requests began like this.
    fn asked(&self, start: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|line| line.starts_with(start)).count()
    }
}

fn answer(mut stream: TcpStream, valid: Duration, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    if reader.read_line(&mut request).is_err() {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    seen.lock().unwrap().push(request.clone());
    let until = jiff::Timestamp::now() + valid;
    let role = serde_json::json!({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": KEY,
        "SecretAccessKey": SECRET, "Token": "t", "LastUpdated": "2026-01-01T00:00:00Z",
        "Expiration": until.strftime("%FT%TZ").to_string()});
    let path = request.split(' ').nth(1).unwrap_or_default();
    let body = match path.trim_end_matches('/') {
        "/latest/api/token" => "token".to_owned(),
        "/latest/meta-data/placement/region" => "eu-north-1".to_owned(),
        "/latest/meta-data/iam/security-credentials" => "backup".to_owned(),
        "/latest/meta-data/iam/security-credentials/backup" => role.to_string(),
        _ => String::new(),
    };
    let status = match body.is_empty() {
        true => "403 Forbidden",
        false => "200 OK",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = reader.read_to_end(&mut Vec::new());
}

/// The program, in an environment that has only these.
fn on_an_instance(arguments: &[&str], metadata: &Metadata, more: &[(&str, &str)]) -> Run {
    let service = format!("http://{}", metadata.address);
    finish(
        Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", service)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("STILLPOINT_CONFIG_DIR", "/nowhere")
            .env("STILLPOINT_CACHE_DIR", "/proc/nowhere")
            .envs(more.iter().copied()),
    )
}

#[test]
fn a_region_that_nobody_set_is_the_instances() {
    let metadata = Metadata::start(Duration::from_secs(3600));
    let proxy = format!("http://{}", metadata.address);
    let arguments = ["list", "--vault", "s3://a-bucket/vault"];
    let run = on_an_instance(&arguments, &metadata, &[("HTTPS_PROXY", &proxy)]);
    let run = run.expect(1);
    assert!(run.stderr.contains("s3://a-bucket/vault"), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    let host = "CONNECT a-bucket.s3.eu-north-1.amazonaws.com:443";
    assert!(metadata.asked(host) > 0, "{:?}", metadata.asked);
}

/// Without a metadata service, and without an endpoint: words, and the region of those without one.
#[test]
fn where_nobody_says_a_region_the_usual_one_is_asked() {
    let metadata = Metadata::start(Duration::from_secs(3600));
    let proxy = format!("http://{}", metadata.address);
    let more = [
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("HTTPS_PROXY", &proxy),
    ];
    let arguments = ["list", "--vault", "s3://a-bucket/vault"];
    let run = on_an_instance(&arguments, &metadata, &more).expect(1);
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    let host = "CONNECT a-bucket.s3.us-east-1.amazonaws.com:443";
    assert!(metadata.asked(host) > 0, "{:?}", metadata.asked);
    assert_eq!(metadata.asked("GET"), 0);

    let mut more = more.to_vec();
    more.push(("AWS_ENDPOINT_URL", ""));
    let run = on_an_instance(&arguments, &metadata, &more).expect(2);
    assert!(
        run.stderr.contains("an endpoint looks like this"),
        "{run:?}"
    );
}

/// Credentials that are over soon are asked for again within one run.
#[test]
fn a_roles_credentials_are_renewed_while_it_runs() {
    let server = Server::start();
    let role = "GET /latest/meta-data/iam/security-credentials/backup";
    let mut asked = Vec::new();
    for (vault, valid) in [("s3://bucket/long", 3600), ("s3://bucket/short", 2)] {
        let metadata = Metadata::start(Duration::from_secs(valid));
        let more = [("AWS_ENDPOINT_URL", server.endpoint.as_str())];
        on_an_instance(&["init", vault], &metadata, &more).expect(0);
        on_an_instance(&["list", "--vault", vault], &metadata, &more).expect(0);
        asked.push(metadata.asked(role));
    }
    assert_eq!(asked[0], 2, "{asked:?}");
    assert!(asked[1] > asked[0], "{asked:?}");
}
