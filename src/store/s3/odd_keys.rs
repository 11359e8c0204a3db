//! Keys that XML cannot hold (U+FFFE, some controls). Who may put can put one anywhere, and each
//! listing that shows it cannot be read. Then the page is asked for again, its keys encoded; what
//! they are is known when they are decoded. Such a key is never one of a vault's.

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// How keys are to be encoded.
pub(super) fn encoding() -> Option<EncodingType> {
    Some(EncodingType::Url)
}

/// Whether a request was done, and its answer makes no sense.
pub(super) fn is_unreadable<T, E>(answer: &Result<T, SdkError<E, HttpResponse>>) -> bool {
    match answer {
        Err(SdkError::ServiceError(refused)) => refused.raw().status().is_success(),
        Err(SdkError::ResponseError(strange)) => strange.raw().status().is_success(),
        _ => false,
    }
}

/// A page with its keys as they are. A store that does not say that it has encoded them has not.
pub(super) fn decoded_page(mut page: ListObjectsV2Output) -> ListObjectsV2Output {
    if page.encoding_type.take() == encoding() {
        let objects = page.contents.iter_mut().flatten();
        objects.for_each(|object| decode(&mut object.key));
    }
    page
}

/// The same of a page of versions.
pub(super) fn decoded_versions(mut page: ListObjectVersionsOutput) -> ListObjectVersionsOutput {
    if page.encoding_type.take() == encoding() {
        let versions = page.versions.iter_mut().flatten();
        versions.for_each(|version| decode(&mut version.key));
        let marks = page.delete_markers.iter_mut().flatten();
        marks.for_each(|mark| decode(&mut mark.key));
        decode(&mut page.next_key_marker);
    }
    page
}

/// What cannot be decoded is none of a vault's: it has no key any more.
fn decode(key: &mut Option<String>) {
    *key = key.as_deref().and_then(plain);
}

fn plain(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || (rest.next()? as char).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::types::{DeleteMarkerEntry, Object, ObjectVersion};

    #[test]
    fn keys_are_what_they_were_before_they_were_encoded() {
        for (encoded, key) in [
            ("vault/index/0a", Some("vault/index/0a")),
            ("vault/snapshots/a%2525/01", Some("vault/snapshots/a%25/01")),
            ("%EF%BF%BE%01", Some("\u{fffe}\u{1}")),
            ("a+b%2bc", Some("a b+c")),
            ("%ff", None),
            ("%4", None),
            ("%zz", None),
        ] {
            assert_eq!(plain(encoded).as_deref(), key, "{encoded}");
        }
    }

    #[test]
    fn pages_are_decoded_where_they_say_that_they_are_encoded() {
        let object = |key: &str| Object::builder().key(key).build();
        let page = |encoding| {
            let page = ListObjectsV2Output::builder().set_encoding_type(encoding);
            decoded_page(page.contents(object("a%25b")).contents(object("%")).build())
        };
        let keys = |page: &ListObjectsV2Output| {
            let keys = page.contents().iter().map(|one| one.key.clone());
            keys.collect::<Vec<_>>()
        };
        let some = |key: &str| Some(key.to_owned());
        assert_eq!(keys(&page(encoding())), [some("a%b"), None]);
        assert_eq!(keys(&page(None)), [some("a%25b"), some("%")]);

        let page = ListObjectVersionsOutput::builder()
            .set_encoding_type(encoding())
            .versions(ObjectVersion::builder().key("a%25b").build())
            .delete_markers(DeleteMarkerEntry::builder().key("c%01").build())
            .next_key_marker("c%01")
            .build();
        let page = decoded_versions(page);
        assert_eq!(page.versions()[0].key(), Some("a%b"));
        assert_eq!(page.delete_markers()[0].key(), Some("c\u{1}"));
        assert_eq!(page.next_key_marker(), Some("c\u{1}"));
    }
}
