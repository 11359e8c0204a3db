//! The text of a host's configuration with what activation adds to it: a block at its end, and a
//! line at its beginning where no other vault is the usual one. All else stays as it is, comments
//! too; a block that somebody has changed is neither replaced nor taken away.

use super::host_files::hash_of;
use super::token::TokenVault;
use crate::error::{Error, ErrorKind, Result};
use std::fmt::Write;
use std::path::Path;

/// The first line of the block, and the last.
const FIRST: &str = "# >>> Written by `stillpoint client activate`; `stillpoint client deactivate` \
                     takes it away. >>>\n";
const LAST: &str = "# <<< Written by `stillpoint client activate`. <<<\n";
/// The end of the line that says which vault is the usual one.
const USUAL: &str = "    # by `stillpoint client activate`\n";

/// Where the files are that the block names.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockPlaces<'a> {
    /// The key.
    pub key: Option<&'a Path>,
    /// The credentials.
    pub credentials: Option<&'a Path>,
    /// The certificates.
    pub certificates: Option<&'a Path>,
}

/// The block in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockFound {
    /// There is none.
    Absent,
    /// It is whole, and has this hash.
    Whole(String),
    /// It has no end, or there are two.
    Broken,
}

/// The text of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsText(String);

/// The block for a vault.
pub fn block(vault: &TokenVault, places: BlockPlaces<'_>) -> Result<String> {
    let settings = &vault.settings;
    let mut text = format!("{FIRST}[vaults.{}]\n", vault.name);
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        }
    };
    line("url", Some(quoted(&settings.url)));
    line("endpoint", settings.endpoint.as_deref().map(quoted));
    line("region", settings.region.as_deref().map(quoted));
    line(
        "path_style",
        settings.path_style.map(|flag| flag.to_string()),
    );
    line("checksums", settings.checksums.as_deref().map(quoted));
    line(
        "storage_class",
        settings.storage_class.as_deref().map(quoted),
    );
    line("ca_file", places.certificates.map(named).transpose()?);
    let credentials = places.credentials.map(named).transpose()?;
    let credentials = credentials.map(|file| format!("{{ file = {file} }}"));
    line("credentials", credentials);
    line("password_file", places.key.map(named).transpose()?);
    if let Some(limits) = &settings.limits {
        let parts = [
            ("upload", limits.upload.as_deref().map(quoted)),
            ("download", limits.download.as_deref().map(quoted)),
            ("requests", limits.requests.map(|number| number.to_string())),
        ];
        let parts = parts.into_iter();
        let parts: Vec<String> = parts
            .filter_map(|(key, value)| Some(format!("{key} = {}", value?)))
            .collect();
        line("limits", Some(format!("{{ {} }}", parts.join(", "))));
    }
    Ok(text + LAST)
}

/// A path as TOML has it.
fn named(path: &Path) -> Result<String> {
    path.to_str().map(quoted).ok_or_else(|| {
        let what = format!("{}: a configuration names files in UTF-8", path.display());
        Error::new(ErrorKind::Usage, what)
    })
}

/// A text as TOML has it: what JSON escapes, TOML does too, but for one character.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::String(text.into()).to_string();
    json.replace('\u{7f}', "\\u007f")
}

impl SettingsText {
    /// Of a file's text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The block that stands in it.
    pub fn block_found(&self) -> BlockFound {
        match (self.0.find(FIRST), self.0.contains(LAST)) {
            (None, false) => BlockFound::Absent,
            _ => self.block_range().map_or(BlockFound::Broken, |range| {
                BlockFound::Whole(hash_of(&self.0.as_bytes()[range]))
            }),
        }
    }

    fn block_range(&self) -> Option<std::ops::Range<usize>> {
        let start = self.0.find(FIRST)?;
        let length = self.0.get(start..)?.find(LAST)? + LAST.len();
        let range = start..start + length;
        let rest = self.0.get(range.end..)?;
        let inside = self.0.get(start + FIRST.len()..range.end)?;
        let once = ![rest, inside].iter().any(|part| part.contains(FIRST));
        (once && !rest.contains(LAST)).then_some(range)
    }

    /// Whether this text says the same as another one, but for the table of a vault, and that this
    /// vault is meant where none is named: what follows a block may have become part of it.
    pub fn says_more_by(&self, vault: &str, other: &Self) -> bool {
        let parsed = |text: &str| text.parse::<toml::Table>().ok();
        let (Some(mut with), Some(without)) = (parsed(&self.0), parsed(&other.0)) else {
            return false;
        };
        let table = |all: &toml::Table| Some(all.get("vaults")?.get(vault)?.clone());
        if table(&without).is_some() {
            return false;
        }
        if let Some(toml::Value::Table(vaults)) = with.get_mut("vaults") {
            vaults.remove(vault);
            if vaults.is_empty() && !without.contains_key("vaults") {
                with.remove("vaults");
            }
        }
        if !without.contains_key("vault")
            && with.get("vault").and_then(|one| one.as_str()) == Some(vault)
        {
            with.remove("vault");
        }
        // What names a vault that is not there says nothing any more.
        let is_gone = without.get("vault").and_then(|one| one.as_str()) == Some(vault);
        with == without && !is_gone
    }

    /// Whether its block is all that stands in the table of its vault.
    pub fn block_is_whole(&self, vault: &str) -> bool {
        let of = |text: &str| {
            let table = text.parse::<toml::Table>().ok()?;
            table.get("vaults")?.get(vault).cloned()
        };
        let block = self.block_range().and_then(|range| self.0.get(range));
        block.is_some_and(|block| of(block).is_some() && of(block) == of(&self.0))
    }

    /// The same without the block and the line of the usual vault, if that names this one.
    #[must_use]
    pub fn without_block(&self, vault: &str) -> Self {
        let mut text = self.0.clone();
        if let Some(range) = self.block_range() {
            // The empty line before it is ours, too.
            let before = text[..range.start].ends_with("\n\n");
            let start = range.start - usize::from(before);
            text.replace_range(start..range.end, "");
        }
        // Somebody may have put a comment above it.
        let line = usual_line(vault);
        if let Some(at) = text.find(&line)
            && (at == 0 || text[..at].ends_with('\n'))
        {
            text.replace_range(at..at + line.len(), "");
        }
        Self(text)
    }

    /// The same with the block; where `is_usual`, with the line that says that this vault is meant
    /// where none is named.
    #[must_use]
    pub fn with_block(&self, block: &str, usual: Option<&str>) -> Self {
        let mut text = usual.map(usual_line).unwrap_or_default();
        text.push_str(&self.0);
        if !self.0.is_empty() {
            let end = if self.0.ends_with('\n') { "\n" } else { "\n\n" };
            text.push_str(end);
        }
        text.push_str(block);
        Self(text)
    }
}

fn usual_line(vault: &str) -> String {
    format!("vault = {}{USUAL}", quoted(vault))
}

#[cfg(test)]
mod tests {
    use super::super::tests::token;
    use super::super::token::{TokenLimits, TokenVaultSettings};
    use super::*;

    fn text_of(vault: &TokenVault) -> String {
        let places = BlockPlaces {
            key: Some(Path::new("/etc/with \"quotes\"/main.key")),
            credentials: Some(Path::new("/etc/main.s3.env")),
            certificates: None,
        };
        block(vault, places).unwrap()
    }

    #[test]
    fn all_of_a_vault_is_in_its_block() {
        let mut vault = token().vault;
        vault.settings = TokenVaultSettings {
            endpoint: Some("https://s3.example".into()),
            region: Some("r \u{7f}\"\\".into()),
            path_style: Some(true),
            checksums: Some("md5".into()),
            storage_class: Some("STANDARD_IA".into()),
            limits: Some(TokenLimits {
                upload: Some("20MiB/s".into()),
                download: None,
                requests: Some(50),
            }),
            ..vault.settings
        };
        let table: toml::Table = toml::from_str(&text_of(&vault)).unwrap();
        let found = &table["vaults"]["main"];
        assert_eq!(found["region"].as_str(), Some("r \u{7f}\"\\"));
        assert_eq!(found["limits"]["requests"].as_integer(), Some(50));
        assert_eq!(
            found["credentials"]["file"].as_str(),
            Some("/etc/main.s3.env")
        );
        let key = found["password_file"].as_str();
        assert_eq!(key, Some("/etc/with \"quotes\"/main.key"));
        assert_eq!(found.as_table().unwrap().len(), 9);
    }

    #[test]
    fn what_was_there_is_there_again_byte_for_byte() {
        let block = text_of(&token().vault);
        for before in [
            "",
            "# a comment\n[hooks]\ntimeout = \"30s\"\n",
            "[hooks]\n\n",
            "[vaults.other]\nurl = \"/x\"",
        ] {
            let text = SettingsText::new(before);
            assert_eq!(text.block_found(), BlockFound::Absent);
            for usual in [None, Some("main")] {
                let with = text.with_block(&block, usual);
                let hash = hash_of(block.as_bytes());
                assert_eq!(with.block_found(), BlockFound::Whole(hash));
                let table: toml::Table = toml::from_str(with.text()).unwrap();
                assert_eq!(table.contains_key("vault"), usual.is_some());
                // But for the end of a last line that had none.
                let again = with.without_block("main");
                assert_eq!(again.text().trim_end(), before.trim_end());
                let more = SettingsText::new(with.text().to_owned() + "[reading]\nlimit = \"x\"\n");
                assert!(more.without_block("main").text().contains("[reading]"));
            }
        }
    }

    #[test]
    fn what_follows_a_block_may_be_part_of_it() {
        let block = text_of(&token().vault);
        let text = |text: String| SettingsText::new(text);
        for (before, after, alone) in [
            ("", "", true),
            ("", "# a comment\n[reading]\nlimit = \"1MiB/s\"\n", true),
            ("# a comment\n[vaults.other]\nurl = \"/x\"\n\n", "", true),
            ("", "limits = { requests = 5 }\n", false),
            (
                "[vaults.other]\nurl = \"/x\"\n\n",
                "region = \"x\"\n",
                false,
            ),
            ("vault = \"main\"\n", "", false),
            ("broken\n", "", false),
        ] {
            let with = text(format!("{before}{block}{after}"));
            let without = with.without_block("main");
            let is_alone = with.says_more_by("main", &without) && with.block_is_whole("main");
            assert_eq!(is_alone, alone, "{before}{after}");
        }
        let usual = text(String::new()).with_block(&block, Some("main"));
        let commented = text(format!("# managed\n{}", usual.text()));
        let without = commented.without_block("main");
        assert_eq!(without.text(), "# managed\n");
        assert!(commented.says_more_by("main", &without));
    }

    #[test]
    fn a_block_that_was_changed_or_broken_is_known() {
        let block = text_of(&token().vault);
        let changed = block.replace("prefix", "elsewhere");
        let found = SettingsText::new(changed).block_found();
        assert!(matches!(&found, BlockFound::Whole(hash) if *hash != hash_of(block.as_bytes())));
        for broken in [
            block.replace(LAST, ""),
            block.replace(FIRST, ""),
            block.repeat(2),
            format!("{FIRST}{block}"),
        ] {
            let text = SettingsText::new(broken);
            assert_eq!(text.block_found(), BlockFound::Broken);
            assert_eq!(text.without_block("main"), text);
        }
    }
}
