//! A vault in a bucket that refuses, falls silent, or changes its mind in the middle: a client
//! command says so within a bound, leaves nothing half done, and goes on when it is run again.

use super::{Host, PLAN};
use crate::cli::lab::Run;
use crate::s3::proxy::{Plan, Proxy, Seen};
use crate::s3::server::Server;
use serde_json::json;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A host, and a token of a bucket behind a proxy.
struct Far {
    host: Host,
    proxy: Proxy,
    token: String,
    _server: Server,
}

const REFUSED: Option<(u16, &str)> = Some((403, "AccessDenied"));

fn is_list(seen: &Seen) -> bool {
    seen.method == "GET" && seen.path.contains("list-type=2")
}

impl Far {
    fn new(test: &str) -> Option<Self> {
        let host = Host::without_vault(test)?;
        let server = Server::start();
        let calm = Plan {
            seed: 1,
            percent: 0,
            faults: Vec::new(),
        };
        let proxy = Proxy::start(&server.endpoint, calm);
        let credentials = server.credentials();
        let credentials = credentials.to_str().unwrap();
        let office = format!(
            "[vaults.far]\nurl = \"s3://bucket/of/far\"\nendpoint = {:?}\nregion = \"us-east-1\"\n\
             path_style = true\ncredentials = {{ file = {credentials:?} }}\n",
            proxy.endpoint
        );
        let office = host.text("office.toml", office.as_bytes());
        let token = host.lab.at("token");
        let far = Self {
            host,
            proxy,
            token,
            _server: server,
        };
        far.run(&["init", "far", "--config", &office]).expect(0);
        let make = ["client", "token", "--vault", "far", "--config", &office];
        let options = ["--token-file", &far.token, "--plan", PLAN];
        let with = ["--credentials-file", credentials];
        far.run(&[&make[..], &options, &with].concat()).expect(0);
        Some(far)
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = self.host.command_with(&[], args);
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        crate::cli::lab::finish(&mut command)
    }

    fn activate(&self) -> Run {
        self.run(&["client", "activate", "--token-file", &self.token, "--json"])
    }

    /// It fails in these words, with a remedy, and the host is as it was.
    fn is_refused(&self, told: &[&str]) {
        let run = self.activate();
        assert!(![0, 3].contains(&run.code), "{run:?}");
        let error = run.json();
        crate::cli::schema::check(&self.host.lab, "error", &error);
        let said = error["error"]["message"].as_str().unwrap();
        for part in told {
            assert!(said.contains(part), "{part}: {error:#}");
        }
        assert!(
            error["error"]["hint"]
                .as_str()
                .is_some_and(|hint| !hint.is_empty()),
            "{error:#}"
        );
        assert_eq!(self.host.stands(), []);
    }

    /// Run again, it completes, and nothing of it stays after the host was deactivated.
    fn completes(&self) {
        let done = self.activate();
        assert!([0, 3].contains(&done.code), "{done:?}");
        let again = self.activate().json();
        assert_eq!(again["already"], json!(true), "{again:#}");
        self.run(&["client", "deactivate"]).expect(0);
        assert_eq!(self.host.stands(), []);
    }
}

#[test]
fn a_bucket_that_refuses_something_says_so_and_nothing_is_half_done() {
    let Some(far) = Far::new("client: refusing bucket") else {
        return;
    };
    far.proxy
        .refuse(|seen, _| REFUSED.filter(|_| is_list(seen)));
    far.is_refused(&["list", "nothing was changed"]);
    // It may be read, and not written to.
    far.proxy
        .refuse(|seen, _| REFUSED.filter(|_| seen.method == "PUT"));
    far.is_refused(&["put", "nothing was changed"]);
    far.proxy.refuse(|_, _| REFUSED);
    far.is_refused(&["nothing was changed"]);
    far.proxy.refuse(|_, _| None);
    far.completes();
}

/// Who may put and not delete is what a host ought to be: it is activated, and that is told.
#[test]
fn a_bucket_that_refuses_deletes_takes_a_client_and_lets_it_go() {
    let Some(far) = Far::new("client: no deletes") else {
        return;
    };
    far.proxy
        .refuse(|seen, _| REFUSED.filter(|_| seen.method == "DELETE"));
    let done = far.activate().expect(3).json();
    let warnings = done["warnings"].to_string();
    assert!(warnings.contains("delete"), "{done:#}");
    let state = far.run(&["client", "status", "--json"]);
    assert_eq!(state.json()["state"], "activated", "{state:?}");
    let again = far.activate().json();
    assert_eq!(again["already"], json!(true), "{again:#}");
    far.run(&["client", "deactivate"]).expect(0);
    assert_eq!(far.host.stands(), []);
}

/// The trial was good, and what comes after it is not.
#[test]
fn a_bucket_that_changes_its_mind_leaves_the_host_as_it_was() {
    let Some(far) = Far::new("client: changes its mind") else {
        return;
    };
    let was_tried = Arc::new(AtomicBool::new(false));
    let tried = Arc::clone(&was_tried);
    far.proxy.refuse(move |seen, _| {
        // The trial takes away what it has put, and asks nothing of the vault then.
        let is_trial = seen.path.contains("check");
        tried.fetch_or(is_trial && seen.method == "DELETE", Ordering::SeqCst);
        REFUSED.filter(|_| tried.load(Ordering::SeqCst) && !is_trial)
    });
    far.is_refused(&["this host is as it was"]);
    assert!(was_tried.load(Ordering::SeqCst), "it came so far");
    far.proxy.refuse(|_, _| None);
    far.completes();
}

#[test]
fn a_bucket_that_falls_silent_is_waited_for_within_a_bound_by_who_needs_it_alone() {
    let Some(far) = Far::new("client: silent bucket") else {
        return;
    };
    let asked = far.proxy.hold(0, false);
    far.is_refused(&["nothing was changed"]);
    asked.recv().unwrap();
    far.proxy.let_go();
    let done = far.activate();
    assert!([0, 3].contains(&done.code), "{done:?}");
    // What takes back, and what replaces the program, ask no vault.
    let asked = far.proxy.hold(0, false);
    let update = ["client", "update", "--from", "/no/such/program", "--json"];
    let error = far.run(&update).json();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    far.run(&["client", "deactivate"]).expect(0);
    assert!(asked.try_recv().is_err(), "nothing was asked");
    assert_eq!(far.host.stands(), []);
    assert!(!fs::exists(far.host.lab.path("etc/far.s3.env")).unwrap());
    far.proxy.let_go();
    far.completes();
}
