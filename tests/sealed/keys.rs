//! Passphrases are added, changed and taken away, whole or cut off at any moment.

use super::*;
use stillpoint::ErrorKind;
use stillpoint::store::{FaultStore, KeyRemoved};

#[test]
fn passphrases_come_and_go_and_nothing_else_changes() {
    let safe = Safe::new();
    let taken = safe.take(&safe.vault);
    let data = |safe: &Safe| {
        let folders = ["segments", "index", "snapshots"];
        folders.map(|folder| {
            safe.names(folder)
                .iter()
                .map(|name| safe.bytes(name))
                .collect()
        })
    };
    let before: [Vec<Vec<u8>>; 3] = data(&safe);
    let second = safe.vault.add_key(&key("second")).unwrap();
    let opened = safe.open(&given("second")).unwrap();
    crate::support::vaults::check(&opened, &taken);
    let entries = opened.key_entries().unwrap();
    let labels: Vec<_> = entries
        .iter()
        .map(|one| one.entry.clone().unwrap())
        .collect();
    assert_eq!(
        labels.iter().map(|one| one.label()).collect::<Vec<_>>(),
        ["FIRST", "SECOND"]
    );
    // Changed: the old one no longer opens, the others do.
    opened.change_key(&key("third")).unwrap();
    refused(safe.open(&given("second")));
    safe.open(&given("first")).unwrap();
    let third = safe.open(&given("third")).unwrap();
    // The one that is used stays.
    let own = third.key_entries().unwrap().last().unwrap().id;
    assert!(own != second);
    assert_eq!(
        refused(third.remove_key(own, &key("third"))).kind(),
        ErrorKind::Usage
    );
    let first = third.key_entries().unwrap()[0].id;
    assert_eq!(
        third.remove_key(first, &key("third")).unwrap(),
        KeyRemoved::Gone
    );
    refused(safe.open(&given("first")));
    crate::support::vaults::check(&safe.open(&given("third")).unwrap(), &taken);
    assert_eq!(data(&safe), before);
    assert_eq!(safe.names("keys").len(), 1);
}

/// Each takes the other's away: one of them notices, and is there again.
#[test]
fn of_two_that_take_each_others_key_away_one_stays() {
    let safe = Safe::new();
    let second = safe.vault.add_key(&key("second")).unwrap();
    let [one, two] = ["first", "second"].map(|by| safe.open(&given(by)).unwrap());
    let entries = one.key_entries().unwrap();
    let ids: Vec<_> = entries.iter().map(|key| key.id).collect();
    assert!(ids.is_sorted() && ids[1] == second);
    assert_eq!(
        two.remove_key(ids[0], &key("second")).unwrap(),
        KeyRemoved::Gone
    );
    let removed = one.remove_key(ids[1], &key("first")).unwrap();
    assert!(matches!(removed, KeyRemoved::PutBack(_)), "{removed:?}");
    safe.open(&given("first")).unwrap();
    assert_eq!(safe.names("keys").len(), 1);
}

/// What a change of keys does on a vault.
type Change = fn(&Vault) -> Result<()>;

const CHANGES: [Change; 3] = [
    |vault| vault.add_key(&key("new")).map(drop),
    |vault| vault.change_key(&key("new")).map(drop),
    |vault| {
        let entries = vault.key_entries()?;
        let other = entries.iter().find(|one| {
            let entry = one.entry.as_ref();
            entry.is_ok_and(|entry| entry.label() == "OTHER")
        });
        vault.remove_key(other.unwrap().id, &key("first")).map(drop)
    },
];

#[test]
fn a_change_that_is_cut_off_at_any_moment_leaves_a_passphrase_that_opens() {
    for (number, change) in CHANGES.iter().enumerate() {
        let mut moments = 0;
        for moment in 0.. {
            let safe = Safe::new();
            safe.vault.add_key(&key("other")).unwrap();
            let faulty = FaultStore::new(safe.store.clone(), move |operation| {
                match operation.moment >= moment {
                    true => Err(Error::new(ErrorKind::Io, "the test says so")),
                    false => Ok(()),
                }
            });
            let faulty = Arc::new(faulty);
            let opened = Vault::open_by(faulty.clone(), &given("first"));
            let done = opened.and_then(|vault| change(&vault));
            let opens = |by: &str| safe.open(&given(by)).is_ok();
            let what = format!("change {number}, moment {moment}: {done:?}");
            assert!(opens("first") || opens("new"), "{what}");
            assert!(number == 2 || opens("other"), "{what}");
            if faulty.moments() <= moment {
                done.unwrap();
                assert_eq!(opens("new"), number < 2, "{what}");
                assert_eq!(opens("first"), number != 1, "{what}");
                assert_eq!(opens("other"), number < 2, "{what}");
                moments = moment;
                break;
            }
        }
        assert!(moments >= 4, "only {moments} moments");
    }
}

#[test]
fn a_vault_that_is_cut_off_while_it_is_made_is_none_or_opens() {
    for moment in 0.. {
        let store = Arc::new(MemoryStore::new());
        let faulty = Arc::new(FaultStore::new(store.clone(), move |operation| {
            match operation.moment >= moment {
                true => Err(Error::new(ErrorKind::Io, "the test says so")),
                false => Ok(()),
            }
        }));
        let options = VaultOptions {
            encrypt: Some(key("first")),
            ..vault_options()
        };
        let made = Vault::create(faulty.clone(), options);
        if store.size(&ObjectName::vault_info()).is_ok() {
            Vault::open_by(store, &given("first")).unwrap();
        }
        if faulty.moments() <= moment {
            made.unwrap();
            assert!(moment >= 2);
            break;
        }
    }
}

#[test]
fn hostile_and_damaged_entries_keep_no_good_one_from_opening() {
    let safe = Safe::new();
    let own = safe.names("keys").remove(0);
    let good = safe.bytes(&own);
    // Before and after it in the list: one that was copied, one that was cut, one that is none.
    let entries = [&good[..], &good[..good.len() / 2], b"nothing"];
    for (at, bytes) in entries.iter().enumerate() {
        for place in ["00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
            let text = format!("keys/{}{at}", &place[..25]);
            let name = ObjectName::parse(&text).unwrap();
            safe.store.put(&name, bytes.to_vec().into()).unwrap();
        }
    }
    safe.open(&given("first")).unwrap();
    let error = refused(safe.open(&given("wrong")));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("none of the vault's 7 keys"),
        "{error}"
    );
    // However many there are, whatever they are.
    for n in 0..40 {
        let id = stillpoint::model::SnapshotId::generate(n);
        safe.store
            .put(&ObjectName::key(id), b"x".to_vec().into())
            .unwrap();
    }
    safe.open(&given("first")).unwrap();
}

#[test]
fn flips_in_the_only_entry_are_refused_in_words() {
    let safe = Safe::new();
    let name = safe.names("keys").remove(0);
    let good = safe.bytes(&name);
    for at in (0..good.len()).step_by(7) {
        safe.store.corrupt(&name, |bytes| {
            *bytes = good.clone();
            bytes[at] ^= 4;
        });
        let error = refused(safe.open(&given("first")));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "byte {at}: {error}");
        assert!(error.hint().unwrap().contains("keys"), "byte {at}");
    }
    safe.store.delete(&name).unwrap();
    let error = refused(safe.open(&given("first")));
    assert!(error.to_string().contains("no key is left"), "{error}");
}
