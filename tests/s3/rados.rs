//! The rules of a store and a whole life of a vault, in Ceph's radosgw, where it is installed.

use super::server::{BUCKET, KEY, SECRET, credentials, place};
use super::suite::{Taken, obeys};
use crate::support::host::{self, skipped};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check_all, take, vault_options};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{ObjectStore, S3Store, Vault};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/s3-server");

/// A server of its own, which ends with this.
struct Rados {
    folder: TempDir,
    endpoint: String,
}

impl Rados {
    /// `None`, and said loudly, where it is not installed.
    fn start(test: &str) -> Option<Self> {
        let programs = ["radosgw", "ceph-mon", "ceph-osd", "ceph"];
        let has = |program: &&str| {
            let folders = ["/usr/bin", "/usr/sbin", "/bin"].map(Path::new);
            folders.iter().any(|folder| folder.join(program).exists())
        };
        if let Some(missing) = programs.iter().find(|program| !has(program)) {
            skipped(test, &format!("no {missing}"));
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            skipped(test, "not root");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("stillpoint-rados-")
            .tempdir_in("/dev/shm")
            .unwrap();
        // It takes a row of ports, below those that the kernel gives away.
        let port = 20_000 + std::process::id() % 100 * 100;
        let at = folder.path().to_str().unwrap();
        let endpoint = host::run(SCRIPT, &["start", at, &port.to_string(), KEY, SECRET]);
        Some(Self { folder, endpoint })
    }

    /// Makes the bucket.
    fn make_bucket(&self) {
        let credentials = aws_sdk_s3::config::Credentials::new(KEY, SECRET, None, None, "test");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version_latest()
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let made = runtime.block_on(client.create_bucket().bucket(BUCKET).send());
        made.unwrap();
    }

    fn store(&self, prefix: &str) -> S3Store {
        let credentials = credentials(self.folder.path());
        S3Store::open(place(&self.endpoint, &credentials, prefix)).unwrap()
    }
}

impl Drop for Rados {
    fn drop(&mut self) {
        let mut stop = Command::new(SCRIPT);
        let _ = stop.arg("stop").arg(self.folder.path()).status();
    }
}

#[test]
fn radosgw_keeps_the_rules_and_vaults() {
    let Some(server) = Rados::start("radosgw_keeps_the_rules_and_vaults") else {
        return;
    };
    server.make_bucket();
    obeys(&server.store(""), &Taken::Unknown);
    obeys(&server.store("deep/er"), &Taken::Unknown);
    let store: Arc<dyn ObjectStore> = Arc::new(server.store("vault"));
    let vault = Arc::new(Vault::create(Arc::clone(&store), vault_options()).unwrap());
    let disks = [
        ModelDisk::new(0, 200 * BLOCK_SIZE + 512, 1),
        ModelDisk::new(1, 20 * BLOCK_SIZE, 2),
    ];
    let mut taken = Vec::new();
    for _ in 0..6 {
        disks.iter().for_each(|disk| disk.scribble(30));
        taken.push(take(&vault, &disks, Take::default()).unwrap());
    }
    check_all(&Vault::open(store).unwrap(), &taken);
}
