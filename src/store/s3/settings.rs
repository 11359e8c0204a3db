//! What a user may say of a vault in S3 besides where it is. It holds paths and names of
//! credentials, and never a secret.

use std::path::PathBuf;
use std::time::Duration;

/// Where a vault is in S3, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket's name.
    pub bucket: String,
    /// What the names of all its objects begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// How it is reached.
    pub settings: S3Settings,
}

/// How a store is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// Where the store is, when it is not the one of AWS; else what `AWS_ENDPOINT_URL` says.
    pub endpoint: Option<String>,
    /// The bucket's region; else what `AWS_REGION`, the profile or the instance says.
    pub region: Option<String>,
    /// Whether the bucket is named in the path, and not in the host's name; else it is where
    /// there is an endpoint.
    pub path_style: Option<bool>,
    /// What is sent with an object besides the signed hash of it.
    pub checksums: PutChecksum,
    /// The storage class of segments; the rest is small and read often.
    pub storage_class: Option<String>,
    /// A file of certificates (PEM) that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Who asks.
    pub credentials: CredentialSource,
    /// How long is waited.
    pub patience: Patience,
}

/// A checksum that the store compares with what it has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PutChecksum {
    /// None: each request's signature holds the SHA-256 of what it puts.
    #[default]
    None,
    /// `x-amz-checksum-crc32`.
    Crc32,
    /// `Content-MD5`, which object lock needs.
    Md5,
}

impl PutChecksum {
    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Crc32 => "crc32",
            Self::Md5 => "md5",
        }
    }
}

impl S3Settings {
    /// The endpoint that was set, or that the environment says.
    pub(in crate::store) fn endpoint_in_force(&self) -> Option<String> {
        let of_environment = || said(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        self.endpoint.clone().or_else(of_environment)
    }

    /// The region that was set, or that the environment says.
    pub(in crate::store) fn region_in_force(&self) -> Option<String> {
        let of_environment = || said(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        self.region.clone().or_else(of_environment)
    }
}

/// The first of these variables that says something.
fn said(names: &[&str]) -> Option<String> {
    let mut texts = names.iter().filter_map(|name| std::env::var(name).ok());
    texts.find(|text| !text.is_empty())
}

/// Where the credentials come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialSource {
    /// The usual chain: environment, profile, web identity, container, instance.
    #[default]
    Usual,
    /// A profile of the usual files.
    Profile(String),
    /// A file of lines `AWS_ACCESS_KEY_ID=...`, root's alone.
    File(PathBuf),
}

/// How long is waited for what. No limit is on a whole transfer: a slow link is not a dead one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, the name server's answer included.
    pub connect: Duration,
    /// For the next bytes to be sent or received.
    pub stalled: Duration,
    /// For the answer to begin, once all is sent.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stalled: Duration::from_secs(60),
            // The kernel may hold some of what counts as sent.
            answer: Duration::from_secs(120),
        }
    }
}
