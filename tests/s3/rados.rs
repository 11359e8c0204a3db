//! The rules of a store and a whole life of a vault, in Ceph's radosgw, where it is installed.

use super::server::{BUCKET, KEY, SECRET, credentials, place};
use super::suite::{Taken, obeys};
use crate::support::host::{self, skipped};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check_all, take, vault_options};
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleExpiration,
    LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration, VersioningConfiguration,
};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{ObjectStore, S3Store, Vault};
use tempfile::TempDir;

/// A rule of the bucket.
#[derive(Clone, Copy)]
pub struct Rule<'a> {
    pub id: &'a str,
    pub prefix: &'a str,
    pub then: Then,
}

/// What becomes of objects, after so many days.
#[derive(Clone, Copy)]
pub enum Then {
    Expires(i32),
    /// Of versions that are not current any more.
    VersionsExpire(i32),
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/s3-server");

/// A server of its own, which ends with this.
pub struct Rados {
    pub folder: TempDir,
    pub endpoint: String,
}

impl Rados {
    /// `None`, and said loudly, where it is not installed.
    pub fn start(test: &str) -> Option<Self> {
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
        // It takes a row of ports, below those that the kernel gives away. Others may run beside it
        // in this process.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let row = std::process::id() + 37 * STARTED.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + row % 100 * 100;
        let at = folder.path().to_str().unwrap();
        let endpoint = host::run(SCRIPT, &["start", at, &port.to_string(), KEY, SECRET]);
        Some(Self { folder, endpoint })
    }

    /// Does something as the bucket's owner.
    pub fn owner<T>(&self, work: impl AsyncFnOnce(aws_sdk_s3::Client) -> T) -> T {
        self.by(KEY, SECRET, work)
    }

    /// Does something by a user's key, as who has stolen it would.
    pub fn by<T>(
        &self,
        key: &str,
        secret: &str,
        work: impl AsyncFnOnce(aws_sdk_s3::Client) -> T,
    ) -> T {
        let credentials = aws_sdk_s3::config::Credentials::new(key, secret, None, None, "test");
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
        runtime.block_on(work(client))
    }

    /// Makes the bucket.
    pub fn make_bucket(&self) {
        self.owner(async |client| client.create_bucket().bucket(BUCKET).send().await)
            .unwrap();
    }

    /// Makes the bucket so that it can lock, which keeps versions, too.
    pub fn make_locking_bucket(&self, name: &str) {
        self.owner(async |client| {
            let create = client.create_bucket().bucket(name);
            create.object_lock_enabled_for_bucket(true).send().await
        })
        .unwrap();
    }

    /// From here on versions are kept.
    pub fn switch_versioning_on(&self) {
        let versioning = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        self.owner(async |client| {
            let put = client.put_bucket_versioning().bucket(BUCKET);
            put.versioning_configuration(versioning).send().await
        })
        .unwrap();
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        let found = self.owner(async |client| client.list_objects_v2().bucket(BUCKET).send().await);
        let found = found.unwrap();
        let keys = found.contents().iter().filter_map(|object| object.key());
        keys.map(str::to_owned).collect()
    }

    /// How many versions and marks of deleted objects are in the bucket.
    pub fn versions(&self) -> usize {
        let found =
            self.owner(async |client| client.list_object_versions().bucket(BUCKET).send().await);
        let found = found.unwrap();
        found.versions().len() + found.delete_markers().len()
    }

    /// The bucket has these rules and no others.
    pub fn set_rules(&self, rules: &[Rule<'_>]) {
        let rules = rules.iter().map(|rule| {
            let filter = LifecycleRuleFilter::builder().prefix(rule.prefix);
            let built = LifecycleRule::builder()
                .id(rule.id)
                .status(ExpirationStatus::Enabled)
                .filter(filter.build());
            let built = match rule.then {
                Then::VersionsExpire(days) => built.noncurrent_version_expiration(
                    NoncurrentVersionExpiration::builder()
                        .noncurrent_days(days)
                        .build(),
                ),
                Then::Expires(days) => {
                    built.expiration(LifecycleExpiration::builder().days(days).build())
                }
            };
            built.build().unwrap()
        });
        let rules = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules.collect()))
            .build()
            .unwrap();
        self.owner(async |client| {
            let put = client.put_bucket_lifecycle_configuration().bucket(BUCKET);
            put.lifecycle_configuration(rules).send().await
        })
        .unwrap();
    }

    /// Makes a user, whose name is the key's too.
    pub fn make_user(&self, name: &str, secret: &str) {
        let conf = self.folder.path().join("ceph.conf");
        let conf = conf.to_str().unwrap();
        let user = ["user", "create", "--uid", name, "--display-name", name];
        let keys = ["--access-key", name, "--secret-key", secret];
        host::run("radosgw-admin", &[&["-c", conf][..], &user, &keys].concat());
    }

    /// The bucket has this policy.
    pub fn set_policy(&self, policy: &str) {
        self.owner(async |client| {
            let put = client.put_bucket_policy().bucket(BUCKET);
            put.policy(policy).send().await
        })
        .unwrap();
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
