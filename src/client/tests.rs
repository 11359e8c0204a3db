//! What the tests of this room share.

use super::{ClientToken, LONGEST_VALID, TokenSecret, TokenVault, TokenVaultSettings};
use crate::model::ObjectId;
use jiff::Timestamp;

/// A token as one could be.
pub(super) fn token() -> ClientToken {
    let vault = TokenVault {
        name: "main".into(),
        id: ObjectId([7; 16]),
        settings: TokenVaultSettings {
            url: "s3://bucket/prefix".into(),
            ..TokenVaultSettings::default()
        },
    };
    let issued: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
    let mut token = ClientToken::new(vault, issued, LONGEST_VALID).unwrap();
    token.key = Some(TokenSecret::new("s3cret".into()));
    token
}
