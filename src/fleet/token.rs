//! The token that activates an instance: read from a file of its user's alone, sent by an input,
//! and struck out of whatever an instance says. It must never be on a command line.

use super::host::{FleetHost, is_word};
use super::host_file::told;
use crate::client::{MOST_TOKEN, decode};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::plain;
use crate::sys::secret::dump_nothing;
use jiff::Timestamp;
use nix::fcntl::OFlag;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// So many bytes of a token in a row are struck out wherever they stand.
const WINDOW: usize = 12;
/// A text that is a token begins so.
const TOKEN: &str = "stillpoint-client-token";
/// What stands in their place.
const STRUCK: u8 = b'*';
/// What stands for parts of a row in the name of a file.
const PLACEHOLDERS: [&str; 3] = ["{instance}", "{plan}", "{vault}"];

/// Where tokens come from.
#[derive(Debug)]
pub enum TokenSource {
    /// One for all.
    Same(Arc<FleetToken>),
    /// A file for each instance; its name, with placeholders in it.
    Each(String),
}

/// A token, and the file that it stands in.
pub struct FleetToken {
    text: Zeroizing<Vec<u8>>,
    file: File,
    /// Its vault, by each name that it has.
    vault: [String; 3],
    plan: Option<String>,
}

impl TokenSource {
    /// The file at `path`; or one for each instance, where `{instance}`, `{plan}` or `{vault}`
    /// stands in it.
    ///
    /// # Errors
    /// Others can read the file, or it is not there.
    pub fn of(path: &str) -> Result<Self> {
        if path.starts_with(TOKEN) {
            let what = "--token-file: a token stands there itself: nothing was done";
            return Err(Error::new(ErrorKind::Usage, what).with_hint(
                "name a file that holds it; others may have seen the token: make another",
            ));
        }
        match PLACEHOLDERS
            .iter()
            .any(|placeholder| path.contains(placeholder))
        {
            true => Ok(Self::Each(path.to_owned())),
            false => FleetToken::read(Path::new(path)).map(Self::Same),
        }
    }

    /// Refuses what is missing, is no token that is good now, or says otherwise than the list.
    ///
    /// # Errors
    /// `Usage`: all of it, by lines.
    pub fn check(&self, hosts: &[FleetHost]) -> Result<()> {
        let wrong = hosts.iter().filter_map(|host| {
            let why = match self.token(host) {
                Ok(token) => token.differs(host)?,
                Err(error) => error.to_string(),
            };
            Some(format!("line {}: {why}", host.line))
        });
        let wrong: Vec<String> = wrong.collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let what = format!("{}: nothing was done", told(&wrong));
        Err(Error::new(ErrorKind::Usage, what).with_hint(
            "`stillpoint client token` makes one for a vault and a plan; with {vault} or {plan} in \
             the name of --token-file there are several",
        ))
    }

    /// The one for an instance.
    ///
    /// # Errors
    /// As [`TokenSource::of`].
    pub(super) fn token(&self, host: &FleetHost) -> Result<Arc<FleetToken>> {
        match self {
            Self::Same(token) => Ok(Arc::clone(token)),
            Self::Each(path) => {
                let mut file = path.clone();
                let values = [&host.instance, &host.plan, &host.vault];
                for (placeholder, value) in PLACEHOLDERS.into_iter().zip(values) {
                    if path.contains(placeholder) {
                        file = file.replace(placeholder, part_of_a_name(placeholder, value)?);
                    }
                }
                FleetToken::read(Path::new(&file))
            }
        }
    }
}

impl FleetToken {
    /// Reads it. Nothing of this process is dumped from here on.
    ///
    /// # Errors
    /// Others can read or change the file, it is not there, or no token is so long.
    fn read(path: &Path) -> Result<Arc<Self>> {
        dump_nothing();
        let refused = |why: &str| {
            let what = format!("the token {}: {why}", path.display());
            let hint = format!("chown it to yourself, and chmod 0600 {}", path.display());
            Error::new(ErrorKind::Usage, what).with_hint(hint)
        };
        let file = plain::open(path, OFlag::O_RDONLY).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => refused("it is no regular file"),
            _ => Error::io("open the token", path, error)
                .with_hint("`stillpoint client token` makes one"),
        })?;
        let stat = file.metadata().io_context("look at", path)?;
        let me = nix::unistd::geteuid().as_raw();
        if stat.uid() != me || stat.mode() & 0o077 != 0 {
            return Err(refused("others can read or change it"));
        }
        // Room for all of it: what grows leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MOST_TOKEN + 1));
        let mut most = (&file).take(MOST_TOKEN as u64 + 1);
        most.read_to_end(&mut text).io_context("read", path)?;
        if text.len() > MOST_TOKEN {
            return Err(refused("it is longer than any token"));
        }
        let about = |error: Error| error.context(path.display());
        let token = decode(&text).map_err(about)?;
        token.check_times(Timestamp::now()).map_err(about)?;
        let vault = &token.vault;
        Ok(Arc::new(Self {
            vault: [
                vault.name.clone(),
                vault.settings.url.clone(),
                vault.id.to_string(),
            ],
            plan: token.plan.as_ref().map(|plan| plan.name.clone()),
            text,
            file,
        }))
    }

    /// In what it is otherwise than a row says, in words.
    fn differs(&self, host: &FleetHost) -> Option<String> {
        let [name, url, id] = &self.vault;
        if !host.vault.is_empty() && ![name, url, id].contains(&&host.vault) {
            return Some(format!("the token is for the vault {name}, {url}"));
        }
        match &self.plan {
            _ if host.plan.is_empty() => None,
            Some(plan) if *plan == host.plan => None,
            Some(plan) => Some(format!("the token makes the plan {plan}")),
            None => Some("the token makes no plan".into()),
        }
    }

    /// The token, without blanks around it. Nobody else is to hold it for long.
    pub(super) fn bytes(&self) -> &[u8] {
        self.text.trim_ascii()
    }

    /// Its file, to be read from the start.
    pub(super) fn input(&self) -> std::io::Result<File> {
        plain::reopen(&self.file, OFlag::O_RDONLY)
    }
}

impl fmt::Debug for FleetToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetToken")
    }
}

/// A text that leads nowhere else when it is a part of a file's name.
fn part_of_a_name<'a>(placeholder: &str, value: &'a str) -> Result<&'a str> {
    if is_word(value) {
        return Ok(value);
    }
    let what = format!("{placeholder} in the token's name: \"{value}\" is no part of one");
    Err(Error::new(ErrorKind::Usage, what)
        .with_hint("give this instance another plan or vault in the list, by a plain name"))
}

/// Strikes out whatever of the token stands in it, whole or in parts.
pub(super) fn strike_out(text: &mut [u8], token: &[u8]) {
    let window = WINDOW.min(token.len()).max(1);
    if token.is_empty() {
        return;
    }
    let parts: HashSet<&[u8]> = token.windows(window).collect();
    let mut hit = vec![false; text.len()];
    for (at, here) in text.windows(window).enumerate() {
        if parts.contains(here) {
            hit.iter_mut()
                .skip(at)
                .take(window)
                .for_each(|hit| *hit = true);
        }
    }
    for (byte, hit) in text.iter_mut().zip(hit) {
        if hit {
            *byte = STRUCK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientToken, TokenPlan, TokenVault, TokenVaultSettings, encode};
    use crate::model::ObjectId;
    use jiff::SignedDuration;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn no_part_of_a_token_is_left() {
        let token = b"stillpoint-token-abcdefghijklmnop";
        for (text, left) in [
            ("no secret here", "no secret here"),
            (
                "it was stillpoint-token-abcdefghijklmnop.",
                "it was *********************************.",
            ),
            ("cut: abcdefghijklmn", "cut: **************"),
            ("stillpoint-to", "*************"),
            ("stillpoint", "stillpoint"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            strike_out(&mut bytes, token);
            assert_eq!(String::from_utf8(bytes).unwrap(), left);
        }
        let mut short = b"a key abc".to_vec();
        strike_out(&mut short, b"abc");
        assert_eq!(short, b"a key ***");
        strike_out(&mut short, b"");
    }

    /// A text that is a token, for a vault and with a plan.
    fn made(valid: SignedDuration) -> Zeroizing<String> {
        let vault = TokenVault {
            name: "main".into(),
            id: ObjectId::generate(),
            settings: TokenVaultSettings {
                url: "/vault".into(),
                ..TokenVaultSettings::default()
            },
        };
        let issued = Timestamp::now() - SignedDuration::from_hours(40);
        let mut token = ClientToken::new(vault, issued, valid).unwrap();
        token.plan = Some(TokenPlan {
            name: "daily".into(),
            words: Vec::new(),
        });
        encode(&token).unwrap()
    }

    #[test]
    fn a_token_is_its_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i-1.token");
        let good = made(SignedDuration::from_hours(48));
        fs::write(&path, &*good).unwrap();
        let text = path.to_str().unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set(0o644);
        assert!(TokenSource::of(text).is_err());
        set(0o600);
        let host = |name| FleetHost::of(2, [name, "", "a", "", "", ""]).unwrap();
        let itself = TokenSource::of("stillpoint-client-token 1 secret").unwrap_err();
        assert!(!itself.to_string().contains("1 secret"), "{itself}");
        let same = TokenSource::of(text).unwrap();
        let token = same.token(&host("x")).unwrap();
        assert_eq!(token.bytes(), good.trim().as_bytes());
        for _ in 0..2 {
            let mut read = String::new();
            token.input().unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, *good);
        }
        let each = dir.path().join("{instance}.token");
        let each = TokenSource::of(each.to_str().unwrap()).unwrap();
        assert_eq!(each.token(&host("i-1")).unwrap().bytes(), token.bytes());
        let by_vault = TokenSource::of("/root/{vault}.token").unwrap();
        for vault in ["", "../etc/shadow", "s3://b/p"] {
            let host = FleetHost::of(2, ["i-1", "", "a", "", "", vault]).unwrap();
            assert_eq!(by_vault.token(&host).unwrap_err().kind(), ErrorKind::Usage);
        }
        let gone = each.token(&host("i-2")).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        let wrong = each.check(&[host("i-1"), host("i-2")]).unwrap_err();
        assert!(wrong.to_string().contains("line 2: "), "{wrong}");
        assert!(!format!("{same:?}").contains("stillpoint-client"));
        // What is none goes nowhere: a key, an old one, one that was cut off.
        let old = made(SignedDuration::from_hours(24));
        for other in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            &old,
            &good[..good.len() - 9],
            "\n",
        ] {
            fs::write(&path, other).unwrap();
            assert!(TokenSource::of(text).is_err());
        }
    }

    #[test]
    fn a_token_and_a_list_that_disagree_are_told_before_anything_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, &*made(SignedDuration::from_hours(48))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let source = TokenSource::of(path.to_str().unwrap()).unwrap();
        let host = |plan, vault| FleetHost::of(7, ["i-1", "", "a", "", plan, vault]).unwrap();
        let good = [host("", ""), host("daily", "main"), host("", "/vault")];
        source.check(&good).unwrap();
        for (plan, vault, said) in [
            ("hourly", "", "line 7: the token makes the plan daily"),
            (
                "",
                "other",
                "line 7: the token is for the vault main, /vault",
            ),
        ] {
            let wrong = source
                .check(&[host("", ""), host(plan, vault)])
                .unwrap_err();
            assert!(wrong.to_string().contains(said), "{wrong}");
        }
    }
}
