//! Listings, page by page. One that is cut short must never be taken as whole.

use super::connection::{Connection, Page, PageAt};
use super::failure::{Tried, broken};
use crate::error::{Error, ErrorKind, Result};
use crate::store::object_name::ObjectName;
use crate::store::object_store::ObjectInfo;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::Object;
use jiff::Timestamp;

/// Most objects of a page of a listing.
pub(super) const PAGE: i32 = 1000;

/// Hands what is below a prefix to `each`; `fetch` gets a page.
pub(super) fn list_below(
    connection: &Connection,
    prefix: &ObjectName,
    fetch: &dyn Fn(PageAt<'_>) -> Result<Page>,
    each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
) -> Result<()> {
    let url = connection.url(prefix);
    let tried = connection.tried("list", &url);
    let below = format!("{}/", connection.key(prefix));
    let mut token: Option<String> = None;
    loop {
        let page = fetch(PageAt {
            prefix: &below,
            token: token.as_deref(),
            most: PAGE,
            tried,
        })?;
        for object in page.contents() {
            if let Some(info) = info(connection, object, tried)? {
                each(info)?;
            }
        }
        let next = next_page(&page, tried)?;
        if next.is_none() {
            return Ok(());
        }
        if next == token {
            return Err(broken("the listing goes round in circles", tried));
        }
        token = next;
    }
}

/// What a listing says of an object; `None`: it is none of the vault's.
fn info(connection: &Connection, object: &Object, tried: Tried<'_>) -> Result<Option<ObjectInfo>> {
    let name = connection.name(object.key().unwrap_or_default());
    let Some(name) = name.and_then(|name| ObjectName::parse(name).ok()) else {
        return Ok(None);
    };
    let size = object.size().and_then(|size| u64::try_from(size).ok());
    let modified = object.last_modified().and_then(timestamp);
    match (size, modified) {
        (Some(size), Some(modified)) => Ok(Some(ObjectInfo {
            name,
            size,
            modified,
        })),
        _ => Err(broken(
            format!("{name} is listed without size or time"),
            tried,
        )),
    }
}

/// Where a listing goes on. One that was cut short and does not say where is an error: what is
/// missing from it would be taken for lost, or for garbage.
pub(super) fn next_page(page: &Page, tried: Tried<'_>) -> Result<Option<String>> {
    let token = page
        .next_continuation_token()
        .filter(|token| !token.is_empty());
    match (page.is_truncated(), token) {
        (Some(true), Some(token)) => Ok(Some(token.to_owned())),
        // One that says where it goes on goes on, also if it does not say that it was cut short.
        (None, Some(token)) => Ok(Some(token.to_owned())),
        (Some(false), _) => Ok(None),
        (None, None) if page.contents().len() < PAGE as usize => Ok(None),
        _ => {
            let what = format!(
                "cannot list {}: the store cuts the listing short and does not say where it goes \
                 on",
                tried.url
            );
            Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("nothing was done; this store cannot keep a vault")
                .at(tried.verb, tried.url))
        }
    }
}

/// A time of the store.
pub(super) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), time.subsec_nanos().try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: Tried<'_> = Tried {
        verb: "list",
        url: "s3://bucket/vault/index",
        bucket: "bucket",
        worked: true,
    };

    #[test]
    fn a_listing_that_was_cut_short_is_not_taken_as_whole() {
        let page = || Page::builder();
        let next = |page: Page| next_page(&page, TRIED);
        assert_eq!(next(page().is_truncated(false).build()).unwrap(), None);
        assert_eq!(next(page().build()).unwrap(), None);
        let more = page().is_truncated(true).next_continuation_token("on");
        assert_eq!(next(more.build()).unwrap().as_deref(), Some("on"));
        let full = vec![Object::builder().build(); PAGE as usize];
        for cut in [
            page().is_truncated(true).build(),
            page()
                .is_truncated(true)
                .next_continuation_token("")
                .build(),
            // A full page that does not say whether it is all.
            page().set_contents(Some(full)).build(),
        ] {
            assert_eq!(next(cut).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
