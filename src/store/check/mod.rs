//! `check`: tries a place before anything rests on it, and says what it can and cannot do. What it
//! puts stands under `check/`, where nobody else looks, by names that are fresh each time, and is
//! deleted again. It must never touch an object that it has not put itself.

mod bounds;
mod bucket;
mod directory;
mod ends;
mod found;
mod objects;
mod s3;
mod settings;
mod trial;

pub use bounds::CheckOptions;
pub use found::{CheckRow, RowState, StoreCheck};

use super::layer::CountStore;
use super::local::LocalStore;
use super::location::Location;
use super::object_store::ObjectStore;
use crate::error::Result;
use ends::conclude;
use std::sync::Arc;
use trial::Trial;

/// Tries a place.
///
/// # Errors
/// It was stopped, or the place cannot be looked at at all; what was put and could not be deleted
/// is named.
pub fn check(place: &Location, options: CheckOptions) -> Result<StoreCheck> {
    match (place.path(), place.s3()) {
        (Some(path), _) => {
            let (text, opened) = (path.display().to_string(), path.to_owned());
            let local = options.within(&text, move || LocalStore::open(&opened))?;
            let local = Arc::new(local);
            let store: Arc<dyn ObjectStore> = Arc::new(CountStore::new(local.clone()));
            directory::check(&local, &store, options)
        }
        (None, Some(s3)) => s3::check(place, s3, options),
        (None, None) => Ok(StoreCheck::default()),
    }
}

/// Tries any store, by what every store can do.
///
/// # Errors
/// It was stopped.
pub fn check_store(store: Arc<dyn ObjectStore>, options: CheckOptions) -> Result<StoreCheck> {
    let mut found = StoreCheck {
        location: store.location(),
        ..StoreCheck::default()
    };
    let mut trial = Trial::new(store, options);
    let tried = objects::try_all(&mut trial, &mut found, true);
    conclude(trial, tried, found)
}
