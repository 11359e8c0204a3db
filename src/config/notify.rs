//! How a host tells that it did not go well: the table `[notify]` of the configuration, and that of
//! a plan. Both are checked as a whole. Addresses and secrets must never be shown.

use super::keys::SettingKeys;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// How often it may be told again.
const REMINDER: RangeInclusive<Duration> =
    Duration::from_secs(3600)..=Duration::from_secs(90 * 86_400);
/// The longest time after a boot within which nothing is called overdue.
const MOST_AFTER_BOOT: Duration = Duration::from_secs(86_400);
/// What it is unless the file says otherwise: plans that were missed begin by then.
const AFTER_BOOT: Duration = Duration::from_secs(30 * 60);
/// Most who get mail.
const MOST_RECIPIENTS: usize = 16;
/// The longest address, in bytes.
const LONGEST: usize = 2048;
/// What hands over mail, unless another is named.
const SENDMAIL: &str = "/usr/sbin/sendmail";

/// How a host tells that it did not go well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifySettings {
    /// After how long it is told again; `None`: once.
    pub reminder: Option<Duration>,
    /// Whether it is also told that less was done than was asked.
    pub warnings: bool,
    /// For so long after a boot nothing is called overdue.
    pub after_boot: Duration,
    /// A script that is run.
    pub command: Option<PathBuf>,
    /// Where a document is sent.
    pub webhook: Option<WebhookSettings>,
    /// Who gets mail.
    pub mail: Option<MailSettings>,
    /// What is asked for after a run that went well.
    pub ping: Option<PingSettings>,
    /// The folder for node_exporter.
    pub metrics: Option<PathBuf>,
}

impl Default for NotifySettings {
    fn default() -> Self {
        Self {
            reminder: None,
            warnings: true,
            after_boot: AFTER_BOOT,
            command: None,
            webhook: None,
            mail: None,
            ping: None,
            metrics: None,
        }
    }
}

/// Where a document is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// The address.
    pub address: WebAddress,
    /// The file with the secret; `None`: the environment has it.
    pub secret_file: Option<PathBuf>,
    /// Whom to trust beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// Who gets mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    /// Their addresses.
    pub to: Vec<String>,
    /// Whose mail it is; `None`: as the program has it.
    pub from: Option<String>,
    /// What hands it over.
    pub sendmail: PathBuf,
}

/// What is asked for after a run that went well: who misses it raises the alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingSettings {
    /// The address.
    pub address: WebAddress,
    /// Whether `/start` behind it is asked for before a run.
    pub start: bool,
    /// Whether `/fail` behind it is asked for after a run that failed.
    pub fail: bool,
    /// Whom to trust beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// What a plan says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanNotify {
    /// Whether nothing is told of this plan.
    pub silent: bool,
    /// What is asked for after a run of it that went well.
    pub ping: Option<PingSettings>,
}

/// An address of the web, or the file that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebAddress {
    /// Itself.
    Url(SecretUrl),
    /// A file that its owner alone can read.
    File(PathBuf),
}

/// An address with what stands in it for a password. It shows its scheme and host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// It is none of `http` or `https`, or cannot be used. The error does not show it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let Some(rest) = rest else {
            return Err("it begins with https:// or http://".into());
        };
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['#', '"', '\\']) {
            return Err("there may be visible ASCII in it, and no #".into());
        }
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        if host.contains('@') {
            return Err("a user or password has no place in it".into());
        }
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        if name.is_empty() {
            return Err("there is no host in it".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// All of it: never to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The same with more behind its path.
    #[must_use]
    pub fn with_path(&self, more: &str) -> Self {
        let (path, query) = match self.0.find('?') {
            Some(at) => self.0.split_at(at),
            None => (self.0.as_str(), ""),
        };
        Self(format!("{}{more}{query}", path.trim_end_matches('/')))
    }

    /// Its scheme and host.
    pub fn shown(&self) -> &str {
        let from = self.0.find("://").map_or(0, |at| at + 3);
        let rest = self.0.get(from..).unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        self.0.get(..from + end).unwrap_or_default()
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/...", self.shown())
    }
}

impl NotifySettings {
    /// Takes the table `[notify]` of the configuration.
    pub(super) fn take(keys: &mut SettingKeys) -> Self {
        let usual = Self::default();
        let reminder = keys.parsed("reminder", |text| {
            let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
            match REMINDER.contains(&time) {
                true => Ok(time),
                false => Err("give 1h to 90d".into()),
            }
        });
        let after_boot = keys.parsed("after_boot", |text| {
            let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
            match time <= MOST_AFTER_BOOT {
                true => Ok(time),
                false => Err("give 1d at most".into()),
            }
        });
        Self {
            reminder,
            warnings: keys.flag("warnings").unwrap_or(usual.warnings),
            after_boot: after_boot.unwrap_or(usual.after_boot),
            command: keys.parsed("command", whole_path),
            metrics: keys.parsed("metrics", whole_path),
            webhook: keys.table("webhook", WebhookSettings::take).flatten(),
            mail: keys.table("mail", MailSettings::take).flatten(),
            ping: keys.table("ping", PingSettings::take).flatten(),
        }
    }
}

impl WebhookSettings {
    fn take(keys: &mut SettingKeys) -> Option<Self> {
        let address = WebAddress::take(keys, "url", "url_file");
        let secret_file = keys.parsed("secret_file", whole_path);
        let ca_file = keys.parsed("ca_file", whole_path);
        Some(Self {
            address: address?,
            secret_file,
            ca_file,
        })
    }
}

impl MailSettings {
    fn take(keys: &mut SettingKeys) -> Option<Self> {
        let to = keys.texts("to");
        if to.is_none() {
            keys.missing("to", "say who gets it, like [\"root\"]");
        }
        let to = to.unwrap_or_default();
        if to.len() > MOST_RECIPIENTS {
            keys.fault::<()>("to", &format!("{MOST_RECIPIENTS} at most"));
        }
        if let Some(bad) = to.iter().find(|one| !is_address(one)) {
            keys.fault::<()>("to", &format!("{bad:?} is no address"));
        }
        let from = keys.parsed("from", |text| match is_address(text) {
            true => Ok(text.to_owned()),
            false => Err("it is no address".into()),
        });
        let sendmail = keys.parsed("sendmail", whole_path);
        (!to.is_empty()).then(|| Self {
            to,
            from,
            sendmail: sendmail.unwrap_or_else(|| SENDMAIL.into()),
        })
    }
}

impl PingSettings {
    fn take(keys: &mut SettingKeys) -> Option<Self> {
        let address = WebAddress::take(keys, "url", "url_file");
        let start = keys.flag("start").unwrap_or(false);
        let fail = keys.flag("fail").unwrap_or(false);
        let ca_file = keys.parsed("ca_file", whole_path);
        Some(Self {
            address: address?,
            start,
            fail,
            ca_file,
        })
    }
}

impl PlanNotify {
    /// Takes the table `[notify]` of a plan.
    pub fn take(keys: &mut SettingKeys) -> Self {
        let silent = keys.flag("silent").unwrap_or(false);
        let more = ["ping_start", "ping_fail", "ping_ca_file"];
        let means_ping = more.iter().any(|key| keys.has(key));
        let address = match means_ping || keys.has("ping") || keys.has("ping_file") {
            true => WebAddress::take(keys, "ping", "ping_file"),
            false => None,
        };
        let start = keys.flag("ping_start").unwrap_or(false);
        let fail = keys.flag("ping_fail").unwrap_or(false);
        let ca_file = keys.parsed("ping_ca_file", whole_path);
        let ping = address.map(|address| PingSettings {
            address,
            start,
            fail,
            ca_file,
        });
        Self { silent, ping }
    }
}

impl WebAddress {
    /// As it stands under `key`, or in the file that `file_key` names.
    fn take(keys: &mut SettingKeys, key: &str, file_key: &str) -> Option<Self> {
        let has_file = keys.has(file_key);
        let file = keys.parsed(file_key, whole_path);
        // What stands there may open a door: what is wrong is told without it.
        let url = keys.text(key).map(|text| SecretUrl::parse(&text));
        match (url, file) {
            (Some(Ok(url)), None) => Some(Self::Url(url)),
            (Some(Err(why)), None) => keys.fault(key, &why),
            (None, Some(file)) => Some(Self::File(file)),
            (Some(_), Some(_)) => keys.fault(key, &format!("name it or {file_key}, and not both")),
            (None, None) => {
                if !has_file {
                    keys.missing(key, &format!("name it, or {file_key}"));
                }
                None
            }
        }
    }
}

fn whole_path(text: &str) -> std::result::Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err("give the whole path".into()),
    }
}

/// What may stand in a header as it is, and be one recipient: `root`, or `ops@example.org`.
fn is_address(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "@.!#$%&'*+-/=?^_`{|}~".contains(c);
    !text.is_empty()
        && text.len() <= 254
        && !text.starts_with('-')
        && text.chars().all(fits)
        && text.matches('@').count() <= 1
}

#[cfg(test)]
mod tests {
    use super::super::keys::SettingsFile;
    use super::*;

    fn taken(text: &str) -> (NotifySettings, Vec<String>) {
        let file = SettingsFile {
            table: toml::from_str(text).unwrap(),
            ..SettingsFile::default()
        };
        let mut keys = file.keys();
        let settings = NotifySettings::take(&mut keys);
        (settings, keys.faults())
    }

    #[test]
    fn a_plan_has_an_address_of_its_own() {
        let of = |text: &str| {
            let file = SettingsFile {
                table: toml::from_str(text).unwrap(),
                ..SettingsFile::default()
            };
            let mut keys = file.keys();
            (PlanNotify::take(&mut keys), keys.faults())
        };
        assert_eq!(of(""), (PlanNotify::default(), Vec::new()));
        let (plan, faults) = of("ping = \"https://h/t0ken\"\nping_fail = true\n");
        assert!(faults.is_empty(), "{faults:?}");
        let ping = plan.ping.unwrap();
        assert_eq!((ping.start, ping.fail), (false, true));
        let (_, faults) = of("ping_start = true\nsilent = 1\nreminder = \"1d\"\n");
        assert_eq!(faults.len(), 3, "{faults:?}");
    }

    #[test]
    fn an_address_shows_its_scheme_and_host_alone() {
        let url = SecretUrl::parse("https://hc.example:8443/t0ken?rid=1").unwrap();
        assert_eq!(url.shown(), "https://hc.example:8443");
        assert_eq!(format!("{url:?}"), "https://hc.example:8443/...");
        let fail = url.with_path("/fail");
        assert_eq!(fail.reveal(), "https://hc.example:8443/t0ken/fail?rid=1");
        let bare = SecretUrl::parse("http://h").unwrap();
        assert_eq!(bare.with_path("/start").reveal(), "http://h/start");
        assert_eq!(bare.shown(), "http://h");
        for bad in [
            "ftp://h/t0ken",
            "https://",
            "https://:80/t0ken",
            "https://user:t0ken@h/",
            "https://h/t0ken#x",
            "https://h/t0 ken",
            "https://h/t0ken\u{e9}",
        ] {
            let why = SecretUrl::parse(bad).unwrap_err();
            assert!(!why.contains("t0k"), "{bad}: {why}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_and_no_secret_is() {
        let (settings, faults) = taken(
            "reminder = \"1d\"\ncommand = \"/x\"\nmetrics = \"/m\"\n\
             [webhook]\nurl = \"https://h/t0ken\"\nsecret_file = \"/s\"\n\
             [mail]\nto = [\"root\", \"ops@example.org\"]\n\
             [ping]\nurl_file = \"/p\"\nstart = true\n",
        );
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(settings.reminder, Some(Duration::from_secs(86_400)));
        assert!(settings.ping.unwrap().start && settings.warnings);
        assert!(!format!("{:?}", settings.webhook).contains("t0ken"));
        let (_, faults) = taken(
            "reminder = \"1s\"\ncommand = \"x\"\nurl = \"https://h/t0ken\"\nafter_boot = \"2d\"\n\
             [webhook]\nurl = \"gopher://h/t0ken\"\nsecret = \"t0ken\"\n\
             [mail]\nto = [\"a b\"]\nfrom = \"x\u{a0}\"\n\
             [ping]\nurl = \"https://h/t0ken\"\nurl_file = \"/t\"\n",
        );
        let told = faults.join("\n");
        assert!(!told.contains("t0ken"), "{told}");
        for part in [
            "reminder:",
            "command:",
            "url: there is no such key",
            "after_boot:",
            "webhook.url: it begins with",
            "webhook.secret: there is no such key",
            "mail.to:",
            "mail.from:",
            "ping.url: name it or url_file",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(faults.len(), 9, "{told}");
        let (_, faults) = taken("[mail]\nto = [\"-oQ/tmp\"]\nsendmail = \"x\"\n");
        assert_eq!(faults.len(), 2, "{faults:?}");
        let (_, faults) = taken("[webhook]\n[mail]\n[ping]\n");
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
