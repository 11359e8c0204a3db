//! `client token`: a token by which hosts are activated, made where the vault can be opened. It
//! holds what it is told to hold: credentials of this host never come into one by themselves.

use super::super::args::{ClientTokenArgs, Common};
use super::super::context;
use super::plan_words::planned;
use super::read_token::{is_stream, read_file};
use crate::client::{ClientToken, TokenSecret, TokenVault, TokenVaultSettings, encode};
use crate::config::{Config, SettingsFile};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::put_new_file;
use crate::report::client::{TokenKey, TokenMade};
use crate::report::{self, Report};
use crate::store::{self, KeySource, Location, Vault};
use crate::sys::secret::dump_nothing;
use jiff::{SignedDuration, Timestamp};
use std::io::Write;
use std::path::Path;

/// The longest file of certificates.
const MOST_CERTIFICATES: usize = 24 << 10;

pub fn run(args: &ClientTokenArgs, common: &Common) -> Result<Report> {
    dump_nothing();
    let now = Timestamp::now();
    let plan = planned(&args.plan, now)?;
    let valid = SignedDuration::try_from(args.valid).unwrap_or(SignedDuration::MAX);
    let place = context::vault_named(common, common.vault.as_deref())?;
    let named = named_vault(common, &place)?;
    let vault = store::open(&place)?;
    let name = args.name.clone().or(named.name).unwrap_or("main".into());
    let meant = TokenVault {
        name,
        id: vault.info().id,
        settings: named.settings,
    };
    let mut token = ClientToken::new(meant, now, valid)?;
    token.host = args.host.clone();
    token.plan = plan;
    token.certificates = named
        .certificates
        .as_deref()
        .map(certificates)
        .transpose()?;
    if let Some(file) = &args.credentials_file {
        if !place.is_s3() {
            let what = "--credentials-file: a directory takes none; no token was made";
            return Err(Error::new(ErrorKind::Usage, what));
        }
        token.credentials = Some(secret_in(file)?);
    }
    let key = key_for(args, &vault, &place)?;
    token.key = key.secret;
    let text = encode(&token)?;
    write(&args.token_file, text.as_bytes())?;
    Ok(report::client::token_made(&TokenMade {
        file: (!is_stream(&args.token_file)).then(|| args.token_file.clone()),
        key: key.kind,
        is_s3: place.is_s3(),
        token: &token,
    }))
}

/// How a vault is named here.
struct NamedVault {
    name: Option<String>,
    settings: TokenVaultSettings,
    /// The file of certificates.
    certificates: Option<std::path::PathBuf>,
}

/// What stands in the configuration of the vault that is meant, or what is known without it.
fn named_vault(common: &Common, place: &Location) -> Result<NamedVault> {
    let given = common.vault.as_deref().filter(|name| !name.is_empty());
    let config = Config::read(&common.config_place())?;
    let name = given.or(config.usual_vault());
    let name = name.filter(|name| config.vault_names().any(|known| known == *name));
    let Some(name) = name else {
        return unnamed(place);
    };
    let path = common.config_place().path();
    let file = SettingsFile::read(&path)?;
    let table = file.and_then(|file| file.table.get("vaults")?.get(name).cloned());
    let Some(toml::Value::Table(mut table)) = table else {
        return unnamed(place);
    };
    // What is of this host alone.
    for key in ["credentials", "password_file", "password_command"] {
        table.remove(key);
    }
    let certificates = table.remove("ca_file");
    let certificates = certificates.and_then(|file| Some(file.as_str()?.into()));
    let settings = toml::Value::Table(table).try_into().map_err(|error| {
        let what = format!("vaults.{name} cannot go into a token");
        Error::new(ErrorKind::Usage, what).with_source(error)
    })?;
    Ok(NamedVault {
        name: Some(name.into()),
        settings,
        certificates,
    })
}

/// A vault by its place: what the environment says of a bucket, hosts have to know too.
fn unnamed(place: &Location) -> Result<NamedVault> {
    let said = |names: &[&str]| {
        let mut texts = names.iter().filter_map(|name| std::env::var(name).ok());
        texts.find(|text| !text.is_empty())
    };
    let mut settings = TokenVaultSettings::default();
    match place.path() {
        Some(path) => {
            let whole = std::path::absolute(path);
            let whole = whole.map_err(|error| Error::io("name the vault", path, error))?;
            let text = whole.to_str().map(str::to_owned);
            settings.url = text.ok_or_else(|| {
                let what = format!("{}: a token names its vault in UTF-8", path.display());
                Error::new(ErrorKind::Usage, what)
            })?;
        }
        None => {
            settings.url = place.shown();
            settings.endpoint = said(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
            settings.region = said(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        }
    }
    Ok(NamedVault {
        name: None,
        settings,
        certificates: None,
    })
}

fn certificates(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).io_context("read", file)?;
    match text.len() > MOST_CERTIFICATES {
        true => {
            let what = format!("{}: too long for a token", file.display());
            Err(Error::new(ErrorKind::Usage, what)
                .with_hint("keep in it the certificates that the store needs"))
        }
        false => Ok(text),
    }
}

fn secret_in(file: &Path) -> Result<TokenSecret> {
    let bytes = read_file(file)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(TokenSecret::new(text.into())),
        Err(_) => {
            let what = format!("{}: it is no text; no token was made", file.display());
            Err(Error::new(ErrorKind::Usage, what))
        }
    }
}

/// A key for hosts.
struct HostKey {
    kind: TokenKey,
    secret: Option<TokenSecret>,
}

/// The key that was named, which opens the vault, or else a writer's.
fn key_for(args: &ClientTokenArgs, vault: &Vault, place: &Location) -> Result<HostKey> {
    let is_sealed = vault.info().encryption.is_some();
    match &args.key_file {
        Some(_) if !is_sealed => {
            let what = "--key-file: the vault is not encrypted; no token was made";
            Err(Error::new(ErrorKind::Usage, what))
        }
        None if !is_sealed => Ok(HostKey {
            kind: TokenKey::None,
            secret: None,
        }),
        Some(file) => {
            let source = KeySource::File(file.clone());
            let secret = source.read(&place.shown())?;
            let opened = store::open(&place.clone().with_key(source))?;
            let kind = match opened.keys()?.can_read() {
                true => TokenKey::Reader,
                false => TokenKey::Writer,
            };
            let bytes = secret.as_ref().map_or(&[][..], |secret| secret.bytes());
            Ok(HostKey {
                kind,
                secret: Some(line(bytes)?),
            })
        }
        None => Ok(HostKey {
            kind: TokenKey::Writer,
            secret: Some(line(vault.keys()?.writer_text()?.bytes())?),
        }),
    }
}

fn line(bytes: &[u8]) -> Result<TokenSecret> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| {
        let what = "--key-file: a key that is no text cannot go into a token; none was made";
        Error::new(ErrorKind::Usage, what)
            .with_hint("leave --key-file out: then hosts get a writer's key")
    })?;
    Ok(TokenSecret::new(text.into()))
}

fn write(to: &Path, text: &[u8]) -> Result<()> {
    if !is_stream(to) {
        return put_new_file(to, text, 0o600).map_err(|error| match error.kind() {
            ErrorKind::Exists => {
                let what = format!("{} is there already; no token was made", to.display());
                Error::new(ErrorKind::Exists, what)
                    .with_hint("name another file, or remove that one: it may be a secret")
            }
            _ => error,
        });
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.io_context("write", Path::new("standard output"))
}
