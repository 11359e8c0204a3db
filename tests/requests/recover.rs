//! What a recovery asks for: it looks at all that snapshots needed, and gets what it brings back.

use super::Requests;
use crate::recover::Robbed;
use std::sync::Arc;
use stillpoint::engine::{BringBackOptions, BringBackReport, Silent, bring_back};
use stillpoint::store::{CountStore, KeySource, PastVault};

impl Robbed {
    /// A recovery, and what it asked for: gets of versions and of objects are both `get`, listings
    /// of versions and of objects `list`.
    fn counted(&self, dry_run: bool) -> (BringBackReport, Requests) {
        let store = Arc::new(CountStore::new(self.store.clone()));
        let past = PastVault::open_by(store.clone(), &KeySource::Nobody, self.at).unwrap();
        let now = jiff::Timestamp::now();
        let report = bring_back(&past, BringBackOptions { dry_run, now }, &Silent).unwrap();
        let mut counts = store.take();
        let mut of = |verb| counts.remove(verb).unwrap_or_default().operations;
        let requests = Requests {
            put: of("put"),
            get: of("get"),
            size: of("size"),
            list: of("list"),
            delete: of("delete"),
        };
        (report, requests)
    }
}

#[test]
fn a_recovery_asks_for_what_it_looks_at_and_brings_back() {
    let robbed = Robbed::new(2);
    robbed.delete_all();
    let [manifests, segments, indexes, footers] =
        ["snapshots/", "segments/", "index/", "footers/"].map(|folder| robbed.had(folder));
    assert_eq!([manifests, segments, indexes, footers], [2, 2, 2, 2]);
    let folders = robbed.folders_of_segments();
    // Of then: `vault.json`, each manifest and index object. Whether versions are kept.
    let reads = 1 + manifests + indexes + 1;
    // `vault.json` when it is opened, judged, read with the manifests, and looked at; manifests and
    // index objects, to know what is needed.
    let needs = 3 + 2;
    // `vault.json`, folders of segments, index objects, footers, manifests.
    let look = 1 + folders + 3;

    let (report, asked) = robbed.counted(true);
    assert_eq!(
        (report.put_count(), report.warnings.len()),
        (8, 0),
        "{report:?}"
    );
    let expected = Requests {
        put: 0,
        get: reads,
        size: 0,
        // And what collectors mean to delete.
        list: needs + look + 1,
        delete: 0,
    };
    assert_eq!(asked, expected);

    let (report, asked) = robbed.counted(false);
    assert_eq!(report.put_count(), 8, "{report:?}");
    let expected = Requests {
        // The session, and all that is back.
        put: 1 + 8,
        // Each of these once, as the version of then; a byte of each when it stands, as another
        // version: that it can be read.
        get: reads + 2 * 8,
        // Each is asked for when it was put; of a manifest whether it has come meanwhile, and
        // whether the session stands, before and after it.
        size: 8 + 3 * manifests,
        // Two looks: the second finds that all stands. Sessions, plans twice, and plans before each
        // manifest.
        list: needs + 2 * look + 3 + manifests,
        // The session.
        delete: 1,
    };
    assert_eq!(asked, expected);

    // All stands: nothing is got but what tells that it does.
    let (report, asked) = robbed.counted(false);
    assert_eq!(report.put_count(), 0, "{report:?}");
    let expected = Requests {
        put: 1,
        // Equal ones of which the store says so: a byte of each, whether it can be read.
        get: reads + 8,
        size: 0,
        list: needs + look + 3,
        delete: 1,
    };
    assert_eq!(asked, expected);
}

/// What is asked grows with what was needed, and not with what a thief has put beside it.
#[test]
fn what_a_thief_has_put_beside_it_costs_pages_alone() {
    let robbed = Robbed::new(2);
    robbed.delete_all();
    let (_, without) = robbed.counted(true);
    let robbed = Robbed::new(2);
    robbed.delete_all();
    robbed.litter(5000);
    let (report, with) = robbed.counted(true);
    assert_eq!(report.put_count(), 8, "{report:?}");
    let folders = robbed.folders_of_segments();
    // Segments lie in one folder or in two, by their names.
    assert!(with.list.abs_diff(without.list) <= 1 && folders <= 2);
    assert_eq!(
        with,
        Requests {
            list: with.list,
            ..without
        }
    );
}
