//! JSON from outside, read within bounds: how much memory it takes is known before any is taken.
//! An error never quotes it at length.

use serde::Deserialize;

/// Most bytes of the message about JSON that cannot be read.
const MOST_WORDS: usize = 200;

/// Reads a value; it may hold at most so many others. Each takes about 100 bytes beside its text,
/// whatever it is read as.
///
/// # Errors
/// A sentence: it is no JSON, not of that type, or holds more.
pub fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8], most: usize) -> Result<T, String> {
    if holds_more(text, most) {
        return Err(format!("it holds more than {most} values"));
    }
    serde_json::from_slice(text).map_err(|error| {
        let words = error.to_string();
        let most = words.len().min(MOST_WORDS);
        let end = (0..=most).rfind(|&end| words.is_char_boundary(end));
        let end = end.unwrap_or_default();
        let more = if end < words.len() { "…" } else { "" };
        format!("{}{more}", words.get(..end).unwrap_or_default())
    })
}

/// Whether it holds more than so many values. Each but the first comes after what begins a list or
/// an object, or after a comma.
fn holds_more(text: &[u8], most: usize) -> bool {
    let (mut values, mut in_string, mut escaped) = (1_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => {
                values += 1;
                if values > most {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn count(value: &Value) -> usize {
        match value {
            Value::Array(all) => 1 + all.iter().map(count).sum::<usize>(),
            Value::Object(all) => 1 + all.values().map(count).sum::<usize>(),
            _ => 1,
        }
    }

    #[test]
    fn values_are_counted_before_any_is_made() {
        let value = json!({"a,[{": ["\\\",[", 1, {}, []], "b\\": null});
        let text = value.to_string();
        let least = (1..)
            .find(|most| !holds_more(text.as_bytes(), *most))
            .unwrap();
        // What is empty has begun and holds nothing.
        assert_eq!(least, count(&value) + 2);
        assert_eq!(from_json::<Value>(text.as_bytes(), least).unwrap(), value);
        let why = from_json::<Value>(text.as_bytes(), least - 1).unwrap_err();
        assert_eq!(why, format!("it holds more than {} values", least - 1));
        let many = format!("[{}\"\"]", "\"\",".repeat(10_000));
        assert!(from_json::<Vec<String>>(many.as_bytes(), 10_000).is_err());
        assert!(from_json::<Vec<String>>(many.as_bytes(), 10_002).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_in_few_words() {
        let long = format!("\"{}\"", "ä".repeat(100_000));
        let why = from_json::<bool>(long.as_bytes(), 10).unwrap_err();
        assert!(why.len() <= MOST_WORDS + 3 && why.ends_with('…'), "{why}");
    }
}
