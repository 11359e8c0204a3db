//! What a token says: which vault, by which key and credentials, with which plan, and for how long
//! hosts may be activated by it. Whoever has it can write to the vault: its end keeps a host from
//! being activated, and takes no right away.

use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;
use crate::model::printable::one_line;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// The longest time between the issue of a token and its end.
pub const LONGEST_VALID: SignedDuration = SignedDuration::from_hours(48);
/// By how much the clocks of two hosts may differ.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
/// The only version so far.
pub(super) const VERSION: u32 = 1;
/// Most words of a plan, and most bytes of each.
const MOST_WORDS: usize = 64;
const MOST_WORD: usize = 512;
/// Most bytes of a key, of credentials, and of certificates.
const MOST_KEY: usize = 4095;
const MOST_CREDENTIALS: usize = 16 << 10;
const MOST_CERTIFICATES: usize = 24 << 10;

/// A token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientToken {
    /// Version of the token.
    pub version: u32,
    /// Version of the program that made it.
    pub program: String,
    /// Tells it from all others.
    pub nonce: ObjectId,
    /// When it was made.
    pub issued: Timestamp,
    /// After this no host is activated by it.
    pub expires: Timestamp,
    /// The only host that it activates; `None`: any.
    pub host: Option<String>,
    /// The vault.
    pub vault: TokenVault,
    /// Certificates (PEM) that are trusted besides those of the system.
    pub certificates: Option<String>,
    /// Credentials for the store, a `NAME=value` a line.
    pub credentials: Option<TokenSecret>,
    /// The key of an encrypted vault.
    pub key: Option<TokenSecret>,
    /// The plan to make.
    pub plan: Option<TokenPlan>,
}

/// The vault of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenVault {
    /// What hosts call it.
    pub name: String,
    /// Its ID: no other vault is meant, wherever it stands.
    pub id: ObjectId,
    /// Where it is, and how it is reached.
    pub settings: TokenVaultSettings,
}

/// Where the vault of a token is, and how it is reached: what stands in `[vaults.NAME]`, without
/// paths of the host that made the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenVaultSettings {
    /// A whole path, or `s3://bucket/prefix`.
    pub url: String,
    /// As in the configuration; so are all others.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The bucket's region.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether the bucket is named in the path.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// `none`, `crc32` or `md5`.
    #[serde(default)]
    pub checksums: Option<String>,
    /// The storage class of segments.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// How much of the network it may use.
    #[serde(default)]
    pub limits: Option<TokenLimits>,
}

/// How much of the network a vault may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLimits {
    /// Most bytes a second to put.
    #[serde(default)]
    pub upload: Option<String>,
    /// Most bytes a second to get.
    #[serde(default)]
    pub download: Option<String>,
    /// Most requests a second.
    #[serde(default)]
    pub requests: Option<u64>,
}

/// A plan to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenPlan {
    /// Its name.
    pub name: String,
    /// The options of `plan create`.
    pub words: Vec<String>,
}

/// A secret in a token: shown to nobody, and cleared when it is let go.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenSecret(String);

impl TokenSecret {
    /// Of a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

impl Drop for TokenSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Whether a vault may be called so: files are named after it.
pub(super) fn is_vault_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// What is wrong with a token.
pub(super) fn refused(why: &str) -> Error {
    let what = format!("the token {why}; this host was not changed");
    Error::new(ErrorKind::Usage, what).with_hint(
        "make another, where the vault can be opened: stillpoint client token --token-file FILE",
    )
}

impl ClientToken {
    /// A new one, without key, credentials or plan.
    pub fn new(vault: TokenVault, issued: Timestamp, valid: SignedDuration) -> Result<Self> {
        if valid > LONGEST_VALID || valid < SignedDuration::from_secs(1) {
            let what = "--valid: a token is valid for two days at most";
            return Err(Error::new(ErrorKind::Usage, what).with_hint("--valid 2d, or less"));
        }
        Ok(Self {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
            nonce: ObjectId::generate(),
            issued,
            expires: issued + valid,
            host: None,
            vault,
            certificates: None,
            credentials: None,
            key: None,
            plan: None,
        })
    }

    /// That it holds what a token may hold, however it was made.
    pub(super) fn check(&self) -> Result<()> {
        let life = self.expires.duration_since(self.issued);
        if life > LONGEST_VALID || life <= SignedDuration::ZERO {
            return Err(refused("would be valid for more than two days, or never"));
        }
        if !is_vault_name(&self.vault.name) {
            return Err(refused("gives the vault a name that is none"));
        }
        let has_control = |text: &str| text.chars().any(char::is_control);
        let host = self.host.as_deref().unwrap_or_default();
        if host.len() > 255 || has_control(host) || self.program.len() > 64 {
            return Err(refused("names its host or its program as none is called"));
        }
        let key = self.key.as_ref().map_or(&b"-"[..], TokenSecret::bytes);
        if key.is_empty() || key.len() > MOST_KEY || key.contains(&b'\n') {
            return Err(refused("has a key that is none: one line is"));
        }
        let length = |text: Option<usize>| text.unwrap_or_default();
        let credentials = self.credentials.as_ref().map(|one| one.bytes().len());
        let certificates = self.certificates.as_ref().map(String::len);
        if length(credentials) > MOST_CREDENTIALS || length(certificates) > MOST_CERTIFICATES {
            return Err(refused("has longer credentials or certificates than any"));
        }
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        let long = |word: &String| word.len() > MOST_WORD || has_control(word);
        if plan.words.len() > MOST_WORDS || plan.words.iter().any(long) {
            return Err(refused("has a plan that is none"));
        }
        Ok(())
    }

    /// That it activates this host.
    ///
    /// # Errors
    /// It is that of another.
    pub fn check_host(&self, host: &str) -> Result<()> {
        match self.host.as_deref() {
            Some(meant) if meant != host => Err(refused(&format!(
                "is for the host {}, and this one is {}",
                one_line(meant),
                one_line(host)
            ))),
            _ => Ok(()),
        }
    }

    /// That hosts can be activated by it now.
    ///
    /// # Errors
    /// It has expired, or is from later than now.
    pub fn check_times(&self, now: Timestamp) -> Result<()> {
        let (issued, expires) = (self.issued, self.expires);
        if now >= expires {
            return Err(refused(&format!(
                "has expired at {expires:.0}, and it is {now:.0} here"
            )));
        }
        if issued.duration_since(now) > CLOCKS_DIFFER {
            let what = format!(
                "was made at {issued:.0}, and it is {now:.0} here: one of two clocks is wrong"
            );
            return Err(refused(&what).with_hint(
                "set the clock of this host, or that of the host that made the token: \
                 timedatectl status",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::token;
    use super::*;

    #[test]
    fn a_token_is_good_from_its_issue_to_its_end() {
        let token = token();
        let at =
            |seconds: i64| token.check_times(token.issued + SignedDuration::from_secs(seconds));
        for good in [-300, 0, 1, 48 * 3600 - 1] {
            at(good).unwrap();
        }
        let expired = at(48 * 3600).unwrap_err().to_string();
        assert!(expired.contains("has expired"), "{expired}");
        let ahead = at(-301).unwrap_err();
        assert!(ahead.to_string().contains("two clocks"), "{ahead}");
        assert!(ahead.hint().unwrap().contains("timedatectl"));
    }

    #[test]
    fn no_token_is_good_for_longer() {
        let mut long = token();
        long.expires += SignedDuration::from_secs(1);
        assert!(long.check().is_err());
        let mut never = token();
        never.expires = never.issued;
        assert!(never.check().is_err());
        let more = LONGEST_VALID + SignedDuration::from_secs(1);
        assert!(ClientToken::new(token().vault, token().issued, more).is_err());
    }

    #[test]
    fn what_no_token_holds_is_refused_and_no_secret_is_quoted() {
        let cases: [fn(&mut ClientToken); 7] = [
            |token| token.vault.name = "../x".into(),
            |token| token.vault.name = String::new(),
            |token| token.key = Some(TokenSecret::new("s3cret\nmore".into())),
            |token| token.key = Some(TokenSecret::new("s3cret".repeat(1000))),
            |token| token.credentials = Some(TokenSecret::new("s3cret".repeat(4000))),
            |token| token.host = Some("x\u{1b}[2J".into()),
            |token| {
                token.plan = Some(TokenPlan {
                    name: "p".into(),
                    words: vec!["s3cret".into(); 65],
                });
            },
        ];
        for change in cases {
            let mut token = token();
            token.check().unwrap();
            change(&mut token);
            let error = token.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(!format!("{:?}", token()).contains("s3cret"));
    }

    #[test]
    fn a_token_of_another_host_is_refused() {
        let mut token = token();
        token.check_host("any").unwrap();
        token.host = Some("web-1".into());
        token.check_host("web-1").unwrap();
        assert!(token.check_host("web-2").is_err());
    }
}
