//! Cuts a text to a number of bytes.

/// The first `most` bytes of a text at most; an ellipsis stands for what was cut off.
pub fn clip(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.into();
    }
    let most = most.saturating_sub('…'.len_utf8());
    let end = (0..=most).rfind(|&end| text.is_char_boundary(end));
    format!("{}…", text.get(..end.unwrap_or(0)).unwrap_or_default())
}
