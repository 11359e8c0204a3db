//! The lines of a configuration with which a place in S3 is reached.

use crate::store::s3::{CredentialSource, PutChecksum, S3Place, S3Settings};
use std::path::Path;

/// The table of a vault at this place, with these settings and what the environment says.
pub(super) fn lines(place: &S3Place, fit: &S3Settings) -> Vec<String> {
    let (bucket, prefix) = (&place.bucket, &place.prefix);
    let url = match prefix.as_str() {
        "" => format!("s3://{bucket}"),
        prefix => format!("s3://{bucket}/{prefix}"),
    };
    let path = |path: &Path| path.display().to_string();
    let words = [
        ("url", Some(url)),
        ("endpoint", fit.endpoint_in_force()),
        ("region", fit.region_in_force()),
        ("storage_class", fit.storage_class.clone()),
        ("ca_file", fit.ca_file.as_deref().map(path)),
    ];
    let words = words.into_iter();
    let words = words.filter_map(|(key, word)| Some(format!("{key} = {:?}", word?)));
    let mut lines = vec!["[vaults.NAME]".to_owned()];
    lines.extend(words);
    if let Some(style) = fit.path_style {
        lines.push(format!("path_style = {style}"));
    }
    if fit.checksums != PutChecksum::None {
        lines.push(format!("checksums = {:?}", fit.checksums.word()));
    }
    match &fit.credentials {
        CredentialSource::Usual => {}
        CredentialSource::Profile(name) => {
            lines.push(format!("credentials = {{ profile = {name:?} }}"));
        }
        CredentialSource::File(file) => {
            lines.push(format!("credentials = {{ file = {:?} }}", path(file)));
        }
    }
    lines
}
