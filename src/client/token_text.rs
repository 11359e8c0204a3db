//! A token as one line of text, which passes through terminals, assistants and pipes. Its checksum
//! notices what was cut off or changed on the way; it proves nothing of who made it.

use super::token::{ClientToken, VERSION, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::format::from_json;
use base64_simd::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Longest text of a token, in bytes.
pub const MOST_TOKEN: usize = 96 << 10;
/// Most values in a token.
const MOST_VALUES: usize = 256;
/// A text that is a token begins so.
const WORD: &str = "stillpoint-client-token";
/// What the checksum is of, besides the token.
const CHECKSUM: &str = "stillpoint 2026 client token checksum";

/// The text of a token, with the end of its line.
///
/// # Errors
/// It holds what no token may hold.
pub fn encode(token: &ClientToken) -> Result<Zeroizing<String>> {
    token.check()?;
    let failed = |error| Error::new(ErrorKind::Failed, "cannot write a token").with_source(error);
    let json = Zeroizing::new(serde_json::to_vec(token).map_err(failed)?);
    let body = Zeroizing::new(URL_SAFE_NO_PAD.encode_to_string(&*json));
    let sum = checksum(&body);
    let text = Zeroizing::new(format!("{WORD} {VERSION} {} {sum}\n", *body));
    match text.len() > MOST_TOKEN {
        true => Err(refused("would be longer than any")),
        false => Ok(text),
    }
}

/// Of the text of the body, so that nothing is decoded that is not whole.
fn checksum(body: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(CHECKSUM);
    hasher.update(body.as_bytes());
    let hash = hasher.finalize().to_hex();
    hash.as_str().chars().take(32).collect()
}

/// The token that stands in a text.
///
/// # Errors
/// It is none, of another version, not whole, or holds what no token may hold. No error quotes it.
pub fn decode(text: &[u8]) -> Result<ClientToken> {
    if text.len() > MOST_TOKEN {
        return Err(refused("is longer than any"));
    }
    let text = std::str::from_utf8(text).map_err(|_| refused("is no text"))?;
    let mut words = text.split_ascii_whitespace();
    match words.next() {
        Some(WORD) => {}
        None => return Err(refused("is empty")),
        Some(_) => return Err(refused("is none: it does not begin as one")),
    }
    let version = words.next();
    if version.is_some_and(|word| word != "1" && word.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(newer("is of another version"));
    }
    let cut_off = || refused("is not whole: it was cut off or changed on its way");
    let (Some("1"), Some(body), Some(sum), None) =
        (version, words.next(), words.next(), words.next())
    else {
        return Err(cut_off());
    };
    if checksum(body) != sum {
        return Err(cut_off());
    }
    let json = URL_SAFE_NO_PAD.decode_to_vec(body.as_bytes());
    let json = Zeroizing::new(json.map_err(|_| cut_off())?);
    let token: ClientToken = from_json(&json, MOST_VALUES).map_err(|why| understood(&why))?;
    if token.version != VERSION {
        return Err(newer("is of another version"));
    }
    token.check()?;
    Ok(token)
}

/// What is said of JSON that is no token. Serde may quote a value, which may be a secret.
fn understood(why: &str) -> Error {
    match why.starts_with("unknown field") {
        true => newer("holds what this version does not know"),
        false => refused("cannot be understood"),
    }
}

fn newer(why: &str) -> Error {
    let version = env!("CARGO_PKG_VERSION");
    refused(why).with_hint(format!(
        "this host has stillpoint {version}: bring it to the version of the host that made the \
         token (`stillpoint client update`, or the package manager)"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::token;
    use super::*;

    /// A text with a good checksum, whatever it says.
    fn text_of(version: &str, json: &str) -> String {
        let body = URL_SAFE_NO_PAD.encode_to_string(json.as_bytes());
        format!("{WORD} {version} {body} {}", checksum(&body))
    }

    fn json() -> serde_json::Value {
        serde_json::to_value(token()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let token = token();
        let text = encode(&token).unwrap();
        let read = decode(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json_of(&token));
        // Ends of lines and blanks come from terminals.
        decode(format!("\r\n {} \r\n", text.trim()).as_bytes()).unwrap();
    }

    fn json_of(token: &ClientToken) -> serde_json::Value {
        serde_json::to_value(token).unwrap()
    }

    #[test]
    fn each_part_of_a_token_is_no_token() {
        let text = encode(&token()).unwrap();
        let text = text.trim_end();
        for end in 0..text.len() {
            let error = decode(&text.as_bytes()[..end]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{end}");
        }
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_none_is_told_and_never_quoted() {
        let mut unknown = json();
        unknown["more"] = 1.into();
        let mut inside = json();
        inside["vault"]["settings"]["more"] = 1.into();
        let mut version = json();
        version["version"] = 2.into();
        let mut kind = json();
        kind["expires"] = "s3cret".into();
        let mut values = json();
        values["plan"] = serde_json::json!({"name": "p", "words": vec!["x"; 300]});
        for (text, told) in [
            (String::new(), "is empty"),
            ("s3cret".into(), "does not begin"),
            ("x".repeat(MOST_TOKEN + 1), "longer"),
            (text_of("2", "{}"), "another version"),
            (text_of("x", "{}"), "not whole"),
            (text_of("1", "{"), "understood"),
            (text_of("1", "{}"), "understood"),
            (text_of("1", &unknown.to_string()), "does not know"),
            (text_of("1", &inside.to_string()), "does not know"),
            (text_of("1", &version.to_string()), "another version"),
            (text_of("1", &kind.to_string()), "understood"),
            (text_of("1", &values.to_string()), "understood"),
        ] {
            let error = decode(text.as_bytes()).unwrap_err();
            let said = format!("{error} {}", error.hint().unwrap());
            assert!(said.contains(told), "{told}: {said}");
            assert!(!said.contains("s3cret") && said.len() < 400, "{said}");
        }
        assert!(decode(&[0xff, 0xfe]).is_err());
    }
}
