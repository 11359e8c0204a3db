//! The text in which LVM writes down a volume group (`lib/config/config.c`), as far as it goes:
//! sections, numbers, strings and lists. It comes from a vault, so its depth and what is made of it
//! are bounded. Pure.

use crate::error::{Error, ErrorKind, Result};

/// How deep sections and lists lie in one another at most; LVM has five.
const MOST_DEEP: usize = 8;
/// Most values and sections of a text.
const MOST_VALUES: usize = 1 << 18;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LvmValue {
    Number(u64),
    Text(String),
    List(Vec<LvmValue>),
    Section(LvmSection),
}

/// What has a name, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LvmSection(Vec<(String, LvmValue)>);

impl LvmSection {
    /// Reads a text.
    ///
    /// # Errors
    /// `Format`: it is none, or more than anybody's.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let mut parser = TextParser {
            rest: text,
            values: 0,
        };
        let section = parser.section(0)?;
        parser.skip();
        match parser.rest.is_empty() {
            true => Ok(section),
            false => Err(bad("something stands behind its end")),
        }
    }

    fn value(&self, name: &str) -> Option<&LvmValue> {
        let mut all = self.0.iter();
        all.find_map(|(other, value)| (other == name).then_some(value))
    }

    /// A section in it.
    pub(super) fn section(&self, name: &str) -> Option<&Self> {
        match self.value(name)? {
            LvmValue::Section(section) => Some(section),
            _ => None,
        }
    }

    /// All sections in it, with their names.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.0.iter().filter_map(|(name, value)| match value {
            LvmValue::Section(section) => Some((name.as_str(), section)),
            _ => None,
        })
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.value(name)? {
            LvmValue::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            LvmValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list; one value by itself counts as one.
    pub(super) fn list(&self, name: &str) -> &[LvmValue] {
        match self.value(name) {
            Some(LvmValue::List(list)) => list,
            Some(one) => std::slice::from_ref(one),
            None => &[],
        }
    }

    /// Whether a list has this string.
    pub(super) fn has(&self, name: &str, flag: &str) -> bool {
        let mut all = self.list(name).iter();
        all.any(|value| matches!(value, LvmValue::Text(text) if text == flag))
    }
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("LVM's text: {what}"))
}

struct TextParser<'a> {
    rest: &'a [u8],
    values: usize,
}

impl TextParser<'_> {
    /// Goes past blanks and comments. LVM ends its text with zeros.
    fn skip(&mut self) {
        while let Some((first, rest)) = self.rest.split_first() {
            match first {
                b'#' => {
                    let end = self.rest.iter().position(|byte| *byte == b'\n');
                    let end = end.unwrap_or(self.rest.len());
                    self.rest = self.rest.get(end..).unwrap_or_default();
                }
                0 | b' ' | b'\t' | b'\n' | b'\r' => self.rest = rest,
                _ => return,
            }
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.skip();
        match self.rest.split_first() {
            Some((first, rest)) if *first == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// What has names, up to the end or a closing brace.
    fn section(&mut self, depth: usize) -> Result<LvmSection> {
        if depth > MOST_DEEP {
            return Err(bad("its sections are too deep"));
        }
        let mut all = Vec::new();
        loop {
            self.skip();
            if matches!(self.rest.first(), None | Some(b'}')) {
                return Ok(LvmSection(all));
            }
            let name = self.word()?;
            let value = if self.take(b'{') {
                let section = self.section(depth + 1)?;
                if !self.take(b'}') {
                    return Err(bad("a section has no end"));
                }
                self.count()?;
                LvmValue::Section(section)
            } else if self.take(b'=') {
                self.value(depth + 1)?
            } else {
                return Err(bad("a name has no value"));
            };
            all.push((name, value));
        }
    }

    fn count(&mut self) -> Result<()> {
        self.values += 1;
        match self.values > MOST_VALUES {
            true => Err(bad("it has too many values")),
            false => Ok(()),
        }
    }

    fn value(&mut self, depth: usize) -> Result<LvmValue> {
        self.count()?;
        if depth > MOST_DEEP {
            return Err(bad("its lists are too deep"));
        }
        if self.take(b'[') {
            let mut list = Vec::new();
            while !self.take(b']') {
                list.push(self.value(depth + 1)?);
                if !self.take(b',') && self.rest.first() != Some(&b']') {
                    return Err(bad("a list has no end"));
                }
            }
            return Ok(LvmValue::List(list));
        }
        if self.take(b'"') {
            return self.quoted().map(LvmValue::Text);
        }
        let word = self.word()?;
        Ok(match word.parse() {
            Ok(number) => LvmValue::Number(number),
            Err(_) => LvmValue::Text(word),
        })
    }

    fn word(&mut self) -> Result<String> {
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"{}[]=,#\"\0".contains(byte);
        let end = self.rest.iter().position(is_end);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match std::str::from_utf8(word) {
            Ok(word) if !word.is_empty() => Ok(word.to_owned()),
            _ => Err(bad("a name is missing")),
        }
    }

    fn quoted(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let mut at = 0;
        loop {
            match self.rest.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    bytes.extend(self.rest.get(at + 1));
                    at += 2;
                }
                Some(byte) => {
                    bytes.push(*byte);
                    at += 1;
                }
                None => return Err(bad("a string has no end")),
            }
        }
        self.rest = self.rest.get(at + 1..).unwrap_or_default();
        String::from_utf8(bytes).map_err(|_| bad("a string is no text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lvm_writes_is_read() {
        let text = br#"# a comment
            vg { id = "a-b" seqno = 7 flags = [] status = ["READ", "WRITE"]
                 part { stripes = [ "pv0", 3,
                    "pv1", 0 ] } }
            description = "say \"a\\b\" # no comment" # and one
            "#;
        let text = [text.as_slice(), b"\n\0"].concat();
        let whole = LvmSection::parse(&text).unwrap();
        assert_eq!(whole.text("description"), Some("say \"a\\b\" # no comment"));
        let group = whole.section("vg").unwrap();
        assert_eq!(
            (group.text("id"), group.number("seqno")),
            (Some("a-b"), Some(7))
        );
        assert!(group.has("status", "WRITE") && !group.has("flags", "WRITE"));
        let part = group.section("part").unwrap();
        let stripes = part.list("stripes");
        assert_eq!(stripes[1], LvmValue::Number(3));
        assert_eq!(stripes[2], LvmValue::Text("pv1".into()));
        assert_eq!(whole.sections().count(), 1);
    }

    #[test]
    fn what_is_none_or_too_much_is_refused() {
        let deep = b"a{".repeat(100_000);
        let lists = [b"a=".to_vec(), b"[".repeat(100_000)].concat();
        let many = [
            b"a=[".to_vec(),
            b"1,".repeat(MOST_VALUES + 1),
            b"]".to_vec(),
        ]
        .concat();
        for text in [
            &b"a"[..],
            b"a {",
            b"a { b = 1",
            b"} a = 1",
            b"a = [1",
            b"a = [1 2]",
            b"a = \"x",
            b"a = \"x\\",
            b"= 1",
            b"a = ",
            b"\xff = 1",
            &deep,
            &lists,
            &many,
        ] {
            let refused = LvmSection::parse(text);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Format);
        }
    }
}
