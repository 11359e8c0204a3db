//! `--tag KEY=VALUE`.

use crate::error::{Error, ErrorKind, Result};
use crate::model::printable::one_line;
use std::collections::BTreeMap;

/// All labels of a command line. A snapshot has one value of each, so two of them are refused: who
/// takes a snapshot would lose one, and who looks for both would find none.
pub fn tags(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for text in texts {
        let (key, value) = tag(text)?;
        if let Some(before) = tags.insert(key, value.clone())
            && before != value
        {
            let key = text.split('=').next().unwrap_or_default();
            let (key, before, value) = (one_line(key), one_line(&before), one_line(&value));
            let what = format!(
                "--tag: {key} is given twice, as {before:?} and as {value:?}; nothing was done"
            );
            return Err(Error::new(ErrorKind::Usage, what)
                .with_hint("a snapshot has one value of a label: name each label once"));
        }
    }
    Ok(tags)
}

/// Splits `KEY=VALUE`.
fn tag(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && text.len() <= 1024 => {
            Ok((key.into(), value.into()))
        }
        _ => Err(
            Error::new(ErrorKind::Usage, format!("{text:?} is not KEY=VALUE"))
                .with_hint("a label looks like this: --tag why=upgrade"),
        ),
    }
}
