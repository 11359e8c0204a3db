//! Which places become the second one of a vault, and which are refused.

use super::*;
use stillpoint::store::{Location, make_second, open_second};

/// A vault in a directory.
fn filled(path: &Path) -> Vault {
    let memory = Source::new();
    let store = Arc::new(LocalStore::create(path).unwrap());
    memory.mirror_to(store.clone()).unwrap();
    Vault::open(store).unwrap()
}

fn place(path: &Path) -> Location {
    Location::parse(path.to_str().unwrap()).unwrap()
}

#[test]
fn a_place_becomes_the_second_one_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = filled(&at("source"));
    // Not there yet, or empty.
    assert!(open_second(&place(&at("new")), &source).unwrap().is_none());
    assert!(!at("new").exists(), "a look makes nothing");
    std::fs::create_dir_all(at("empty/lost+found")).unwrap();
    for name in ["new", "empty"] {
        let made = make_second(&place(&at(name)), &source).unwrap();
        assert_eq!(made.info(), source.info());
        let bytes = |path: &Path| std::fs::read(path.join("vault.json")).unwrap();
        assert_eq!(bytes(&at(name)), bytes(&at("source")));
        // It is one from now on.
        assert!(open_second(&place(&at(name)), &source).unwrap().is_some());
    }

    std::fs::create_dir(at("taken")).unwrap();
    std::fs::write(at("taken/file"), "x").unwrap();
    Vault::create_local(&at("another"), vault_options()).unwrap();
    std::os::unix::fs::symlink(at("source"), at("alias")).unwrap();
    let lost = at("lost");
    filled(&lost);
    std::fs::remove_file(lost.join("vault.json")).unwrap();
    for (name, kind, said) in [
        ("taken", ErrorKind::Exists, "is not empty"),
        ("another", ErrorKind::Exists, "holds another vault"),
        ("source", ErrorKind::Usage, "one place"),
        ("alias", ErrorKind::Usage, "one place"),
        ("source/within", ErrorKind::Usage, "within one another"),
        ("alias/within", ErrorKind::Usage, "within one another"),
        ("lost", ErrorKind::Damaged, "all but its vault.json"),
        ("no/such/folder", ErrorKind::NotFound, "make the directory"),
    ] {
        let before = files(folder.path());
        for result in [
            open_second(&place(&at(name)), &source).map(drop),
            make_second(&place(&at(name)), &source).map(drop),
        ] {
            match result {
                // Only what makes something meets this.
                Ok(()) => assert_eq!(kind, ErrorKind::NotFound, "{name}"),
                Err(error) => {
                    assert_eq!(error.kind(), kind, "{name}: {error}");
                    assert!(error.to_string().contains(said), "{name}: {error}");
                }
            }
        }
        assert_eq!(files(folder.path()), before, "{name}: something was put");
    }
    let around = open_second(&place(folder.path()), &source).map(drop);
    assert_eq!(around.unwrap_err().kind(), ErrorKind::Usage);
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

#[test]
fn one_place_is_known_under_whatever_name() {
    let source = Source::new();
    // As another endpoint of the same bucket is: nothing tells but what is in it.
    let alias = Vault::open(source.store.clone()).unwrap();
    let before = contents(source.store.as_ref());
    let error = mirror(&source.vault, &alias, &source.all(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("one place"), "{error}");
    assert_eq!(contents(source.store.as_ref()), before);
    let sessions = source.store.list_all(&ObjectName::sessions()).unwrap();
    assert!(sessions.is_empty(), "{sessions:?}");
}

#[test]
fn a_place_of_an_older_format_is_refused() {
    let source = Source::new();
    let mut older = source.vault.info().clone();
    older.format = 1;
    let store = Arc::new(MemoryStore::new());
    let bytes = older.encode().unwrap();
    store.put(&ObjectName::vault_info(), bytes.into()).unwrap();
    let error = Vault::create_second(store, &source.vault).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Format, "{error}");
}
