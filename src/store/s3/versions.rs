//! Listings of versions, page by page, in the store's own order. One that is cut short must never
//! be taken as whole: what is missing from it would be called gone.

use super::S3Store;
use super::connection::Connection;
use super::failure::{Tried, broken};
use super::listing::{PAGE, timestamp};
use super::odd_keys;
use crate::error::{Error, ErrorKind, Result};
use crate::store::object_name::ObjectName;
use crate::store::object_store::{ObjectVersion, VersionsOf};
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::{DeleteMarkerEntry, ObjectVersion as ListedVersion};
use std::cmp::Ordering;
use std::iter::Peekable;

/// Most pages in a row that are of one key: it takes 65 million versions of it.
const MOST_OF_ONE_KEY: usize = 1 << 16;

/// Where a listing of versions goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct VersionMark {
    key: String,
    version: Option<String>,
}

impl Connection {
    async fn version_page(
        &self,
        prefix: &str,
        from: Option<&VersionMark>,
        tried: Tried<'_>,
    ) -> Result<ListObjectVersionsOutput> {
        let request = self.client().list_object_versions().bucket(self.bucket());
        let request = request.prefix(prefix).max_keys(PAGE);
        let request = request.set_key_marker(from.map(|mark| mark.key.clone()));
        let request = request.set_version_id_marker(from.and_then(|mark| mark.version.clone()));
        let answer = request.clone().send().await;
        if !odd_keys::is_unreadable(&answer) {
            return self.heard(answer, tried);
        }
        let encoded = request.set_encoding_type(odd_keys::encoding());
        let page = self.heard(encoded.send().await, tried)?;
        Ok(odd_keys::decoded_versions(page))
    }

    /// The versions of a page that are `of` these, in its order.
    fn versions_of(
        &self,
        page: &ListObjectVersionsOutput,
        of: VersionsOf<'_>,
        tried: Tried<'_>,
    ) -> Result<Vec<ObjectVersion>> {
        let named = |key: Option<&str>| {
            let name = self.name(key.unwrap_or_default())?;
            ObjectName::parse(name).ok().filter(|name| of.has(name))
        };
        let mut versions = Vec::new();
        for one in page.versions() {
            if let Some(name) = named(one.key()) {
                versions.push(of_version(name, one).ok_or_else(|| without(one.key(), tried))?);
            }
        }
        let mut marks = Vec::new();
        for one in page.delete_markers() {
            if let Some(name) = named(one.key()) {
                marks.push(of_mark(name, one).ok_or_else(|| without(one.key(), tried))?);
            }
        }
        Ok(merged(versions, marks))
    }
}

fn without(key: Option<&str>, tried: Tried<'_>) -> Error {
    let key = crate::model::clip(key.unwrap_or_default(), 512);
    broken(format!("{key:?} is listed without ID, size or time"), tried)
}

fn of_version(name: ObjectName, one: &ListedVersion) -> Option<ObjectVersion> {
    Some(ObjectVersion {
        name,
        id: one.version_id()?.to_owned(),
        size: Some(u64::try_from(one.size()?).ok()?),
        etag: one.e_tag().map(str::to_owned),
        modified: timestamp(one.last_modified()?)?,
        is_current: one.is_latest() == Some(true),
    })
}

fn of_mark(name: ObjectName, one: &DeleteMarkerEntry) -> Option<ObjectVersion> {
    Some(ObjectVersion {
        name,
        id: one.version_id()?.to_owned(),
        size: None,
        etag: None,
        modified: timestamp(one.last_modified()?)?,
        is_current: one.is_latest() == Some(true),
    })
}

/// What stands in a page in two lists as the one that the store made of it. Each list is in the
/// store's order, which is never changed: times decide only between a version and a mark of
/// deletion. Of one moment the mark is the older one, but for one that counts now: what can have
/// been there is brought back rather than not.
fn merged(versions: Vec<ObjectVersion>, marks: Vec<ObjectVersion>) -> Vec<ObjectVersion> {
    let mut all = Vec::with_capacity(versions.len() + marks.len());
    let (mut versions, mut marks) = (
        versions.into_iter().peekable(),
        marks.into_iter().peekable(),
    );
    while let Some(next) = newer(&mut versions, &mut marks) {
        all.push(next);
    }
    all
}

type InOrder = Peekable<std::vec::IntoIter<ObjectVersion>>;

fn newer(versions: &mut InOrder, marks: &mut InOrder) -> Option<ObjectVersion> {
    let (Some(version), Some(mark)) = (versions.peek(), marks.peek()) else {
        return versions.next().or_else(|| marks.next());
    };
    let by_age = || match (version.is_current, mark.is_current) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        _ => mark.modified.cmp(&version.modified),
    };
    match version.name.cmp(&mark.name).then_with(by_age) {
        Ordering::Greater => marks.next(),
        _ => versions.next(),
    }
}

/// The last key of a page.
fn last_key(page: &ListObjectVersionsOutput) -> Option<&str> {
    let version = page.versions().last().and_then(|one| one.key());
    let mark = page.delete_markers().last().and_then(|one| one.key());
    version.max(mark)
}

/// Where a listing goes on; `None`: nowhere. It must get further with each page.
fn next_mark(
    page: &ListObjectVersionsOutput,
    before: Option<&VersionMark>,
    tried: Tried<'_>,
) -> Result<Option<VersionMark>> {
    let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let version = some(page.next_version_id_marker());
    let mark = some(page.next_key_marker()).map(|key| VersionMark { key, version });
    let count = page.versions().len() + page.delete_markers().len();
    match (page.is_truncated(), mark) {
        (Some(false), _) => Ok(None),
        (None, None) if count < PAGE as usize => Ok(None),
        // One that says where it goes on goes on, also if it does not say that it was cut short.
        (_, Some(mark)) if before.is_none_or(|before| goes_on(before, &mark)) => Ok(Some(mark)),
        (_, Some(_)) => Err(broken(
            "the listing of versions goes round in circles",
            tried,
        )),
        (_, None) => {
            let what = format!(
                "cannot list the versions of {}: the store cuts the listing short and does not say \
                 where it goes on",
                tried.url
            );
            Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("nothing was put; this store cannot say what it keeps")
                .at(tried.verb, tried.url))
        }
    }
}

fn goes_on(before: &VersionMark, mark: &VersionMark) -> bool {
    mark.key > before.key || (mark.key == before.key && mark.version != before.version)
}

impl S3Store {
    pub(super) fn each_version(
        &self,
        of: VersionsOf<'_>,
        each: &mut dyn FnMut(ObjectVersion) -> Result<()>,
    ) -> Result<()> {
        let mut prefix = self.connection.key(of.name());
        let url = self.connection.url(of.name());
        let tried = self.connection.tried("list the versions of", &url);
        if matches!(of, VersionsOf::Below(_)) {
            prefix.push('/');
        }
        let mut from: Option<VersionMark> = None;
        let mut of_one_key = 0;
        loop {
            let fetch = || {
                let page = self.connection.version_page(&prefix, from.as_ref(), tried);
                self.runtime.wait(page)
            };
            let page = match from {
                None => fetch(),
                // What was handed out cannot be taken back.
                Some(_) => self.later_pages.attempt("list", fetch),
            }?;
            for version in self.connection.versions_of(&page, of, tried)? {
                each(version)?;
            }
            // Of one object nothing follows a longer key.
            let is_past = last_key(&page).is_some_and(|key| key > prefix.as_str());
            if is_past && matches!(of, VersionsOf::One(_)) {
                return Ok(());
            }
            let next = next_mark(&page, from.as_ref(), tried)?;
            let Some(next) = next else { return Ok(()) };
            let is_same = from.as_ref().is_some_and(|before| before.key == next.key);
            of_one_key = if is_same { of_one_key + 1 } else { 0 };
            if of_one_key > MOST_OF_ONE_KEY {
                return Err(broken("an object has too many versions", tried));
            }
            from = Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, Timestamp};

    fn version(name: &str, id: &str, at: i64, is_current: bool) -> ObjectVersion {
        ObjectVersion {
            name: ObjectName::parse(name).unwrap(),
            id: id.into(),
            size: Some(1),
            etag: None,
            modified: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(at),
            is_current,
        }
    }

    fn mark(name: &str, id: &str, at: i64, is_current: bool) -> ObjectVersion {
        ObjectVersion {
            size: None,
            ..version(name, id, at, is_current)
        }
    }

    #[test]
    fn the_stores_order_counts_and_times_between_its_two_lists_alone() {
        // An upload that began early and ended late stands above what came between.
        let versions = vec![
            version("a/x", "2", 10, false),
            version("a/x", "1", 30, false),
            version("a/y", "4", 5, true),
            version("a/y", "3", 5, false),
        ];
        let marks = vec![
            mark("a/x", "m3", 40, true),
            mark("a/x", "m1", 10, false),
            mark("a/y", "m0", 5, false),
            mark("a/z", "m9", 1, true),
        ];
        let all = merged(versions, marks);
        let ids: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["m3", "2", "1", "m1", "4", "3", "m0", "m9"]);
    }

    #[test]
    fn of_one_moment_a_mark_is_newer_only_where_it_counts_now() {
        let of = |current: bool| {
            let marks = vec![mark("a/x", "m", 7, current)];
            let all = merged(vec![version("a/x", "v", 7, false)], marks);
            all.first().map(|one| one.id.clone())
        };
        assert_eq!(of(true).as_deref(), Some("m"));
        assert_eq!(of(false).as_deref(), Some("v"));
    }

    #[test]
    fn a_listing_of_versions_that_was_cut_short_is_not_taken_as_whole() {
        const TRIED: Tried<'_> = Tried {
            verb: "list the versions of",
            url: "s3://bucket/vault/index",
            bucket: "bucket",
            worked: true,
        };
        let page = ListObjectVersionsOutput::builder;
        let next = |page, before: Option<&VersionMark>| next_mark(&page, before, TRIED);
        assert_eq!(
            next(page().is_truncated(false).build(), None).unwrap(),
            None
        );
        assert_eq!(next(page().build(), None).unwrap(), None);
        let at = VersionMark {
            key: "k".into(),
            version: None,
        };
        let more = page().is_truncated(true).next_key_marker("k");
        let more = more.next_version_id_marker("").build();
        assert_eq!(next(more.clone(), None).unwrap(), Some(at.clone()));
        assert_eq!(next(more, Some(&at)).unwrap_err().kind(), ErrorKind::Io);
        let full = vec![ListedVersion::builder().build(); PAGE as usize];
        for cut in [
            page().is_truncated(true).build(),
            page().is_truncated(true).next_key_marker("").build(),
            page().set_versions(Some(full)).build(),
        ] {
            let error = next(cut, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }
}
