//! Text from elsewhere (a vault, a disk's label, a hook, a file's name) as it may be printed: what
//! a terminal would obey, and what only looks like something else, is written as an escape. It must
//! never change what is stored or compared: only what is shown.
//!
//! Escaped is what the standard library's `escape_debug` calls not printable: control characters
//! (C0, DEL, C1), line separators, what turns the direction of writing, what has no width, and
//! spaces other than the usual one. Backslashes and quotes stay as they are, so that to escape
//! twice is to escape once.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;

/// The text in one line: `a\nb` for what has two.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_plain, |out, c| out.extend(c.escape_debug()))
}

/// A path or a name in one line; a byte that is no text as `\\xff`.
pub fn path(path: &(impl AsRef<OsStr> + ?Sized)) -> String {
    let mut out = String::new();
    for chunk in path.as_ref().as_encoded_bytes().utf8_chunks() {
        out.push_str(&one_line(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The text with its lines and tabs as they are.
pub fn lines(text: &str) -> Cow<'_, str> {
    let stays = |c| is_plain(c) || matches!(c, '\n' | '\t');
    escaped(text, stays, |out, c| out.extend(c.escape_debug()))
}

/// The same for something made of many texts: a copy with each of them in one line.
///
/// # Errors
/// It cannot be made from what it is written as.
pub fn copy<T: Serialize + DeserializeOwned>(thing: &T) -> serde_json::Result<T> {
    let mut value = serde_json::to_value(thing)?;
    escape_all(&mut value);
    serde_json::from_value(value)
}

/// A document of JSON. Its strings hold what they held, by JSON's own escapes.
///
/// # Errors
/// It cannot be written as JSON.
pub fn json(document: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(document)?;
    // Outside of strings there is nothing to escape.
    let escape = |out: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    Ok(escaped(&text, is_plain, escape).into_owned())
}

fn escape_all(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            if let Cow::Owned(escaped) = one_line(text) {
                *text = escaped;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(escape_all),
        Value::Object(keys) => {
            for (key, mut value) in std::mem::take(keys) {
                escape_all(&mut value);
                keys.insert(one_line(&key).into_owned(), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn escaped(
    text: &str,
    stays: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    let Some(first) = text.find(|c| !stays(c)) else {
        return Cow::Borrowed(text);
    };
    let (before, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(before);
    for c in rest.chars() {
        if stays(c) {
            out.push(c);
        } else {
            escape(&mut out, c);
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal shows it as it is.
fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // Alone, what belongs to the letter before it would be escaped too.
    let mut room = [b'x'; 5];
    let length = 1 + c.encode_utf8(&mut room[1..]).len();
    let pair = std::str::from_utf8(&room[..length]).unwrap_or_default();
    pair.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json as value;
    use std::collections::BTreeMap;

    /// What must never reach a terminal, by its own list.
    fn is_harmful(c: char) -> bool {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0001}'..='\u{e007f}')
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_words_are_not() {
        for (text, shown) in [
            ("\u{1b}]0;x\u{7}", r"\u{1b}]0;x\u{7}"),
            ("a\r\nb\tc\0", r"a\r\nb\tc\0"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            ("a\u{202e}b\u{2028}\u{feff}", r"a\u{202e}b\u{2028}\u{feff}"),
        ] {
            assert_eq!(one_line(text), shown);
        }
        let words = [
            "ä ö ß",
            "日本語",
            "हिन्दी",
            "e\u{301}",
            "\u{fffd}",
            r"a\x2db",
            "'\"",
            "☃️",
        ];
        for word in words {
            assert!(matches!(one_line(word), Cow::Borrowed(_)), "{word}");
        }
        assert_eq!(lines("a\n\tb\u{1b}\r\n"), "a\n\tb\\u{1b}\\r\n");
    }

    #[test]
    fn a_name_that_is_no_text_is_shown_by_its_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let name = OsStr::from_bytes(b"a\xff\n\xc3\xa4\xc3");
        assert_eq!(path(name), r"a\xff\nä\xc3");
        assert_eq!(path("plain"), "plain");
    }

    #[test]
    fn documents_hold_what_they_held() {
        let document = value!({"\u{9b}k": ["\u{1b}\n\u{7f}\u{202e}\u{e0001}", 1, null, "ä\\"]});
        let text = json(&document).unwrap();
        assert!(!text.chars().any(is_harmful), "{text}");
        assert!(text.contains(r"\u009bk") && text.contains(r"\udb40\udc01"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            document
        );
    }

    #[test]
    fn a_copy_is_escaped_in_every_corner() {
        let tags = BTreeMap::from([("k\n".to_owned(), vec![Some("v\u{1b}".to_owned()), None])]);
        let shown = copy(&tags).unwrap();
        assert_eq!(shown["k\\n"], [Some(r"v\u{1b}".to_owned()), None]);
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left_and_twice_is_once(text in any::<String>()) {
            let line = one_line(&text);
            prop_assert!(!line.chars().any(is_harmful));
            prop_assert_eq!(one_line(&line), &line[..]);
            let many = lines(&text);
            prop_assert!(!many.chars().any(|c| is_harmful(c) && c != '\n' && c != '\t'));
            prop_assert_eq!(many.matches('\n').count(), text.matches('\n').count());
            let document = json(&text).unwrap();
            prop_assert!(!document.chars().any(is_harmful));
            prop_assert_eq!(serde_json::from_str::<String>(&document).unwrap(), text);
        }
    }
}
