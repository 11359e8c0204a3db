//! The documents of `--json` as JSON Schema. The files beside this one are written by hand; keys
//! are only ever added to them.

use crate::error::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What the documents share, by name.
const SHARED: &str = include_str!("shared.json");
/// How one part refers to a shared one.
const REFERENCE: &str = "#/$defs/";

/// By the name that `schema` takes: a command, or another document that is printed.
const DOCUMENTS: [(&str, &str); 57] = [
    ("check", include_str!("check.json")),
    ("client activate", include_str!("client-activate.json")),
    ("client deactivate", include_str!("client-deactivate.json")),
    ("client status", include_str!("client-status.json")),
    ("client token", include_str!("client-token.json")),
    ("client update", include_str!("client-update.json")),
    ("completions", include_str!("completions.json")),
    ("cp", include_str!("cp.json")),
    ("delete", include_str!("delete.json")),
    ("detach", include_str!("detach.json")),
    ("diff", include_str!("diff.json")),
    ("disks", include_str!("disks.json")),
    ("doctor", include_str!("doctor.json")),
    ("drill", include_str!("drill.json")),
    ("error", include_str!("error.json")),
    ("fleet apply", include_str!("fleet-apply.json")),
    ("fleet status", include_str!("fleet-status.json")),
    ("fleet template", include_str!("fleet-template.json")),
    ("gc", include_str!("gc.json")),
    ("help", include_str!("help.json")),
    ("info", include_str!("info.json")),
    ("init", include_str!("init.json")),
    ("job cancel", include_str!("job-cancel.json")),
    ("job list", include_str!("job-list.json")),
    ("job logs", include_str!("job-logs.json")),
    ("job status", include_str!("job-status.json")),
    ("job wait", include_str!("job-wait.json")),
    ("keep", include_str!("keep.json")),
    ("key", include_str!("key.json")),
    ("list", include_str!("list.json")),
    ("lock", include_str!("lock.json")),
    ("ls", include_str!("ls.json")),
    ("mirror", include_str!("mirror.json")),
    ("mount", include_str!("mount.json")),
    ("mount list", include_str!("mount-list.json")),
    ("notification", include_str!("notification.json")),
    ("plan create", include_str!("plan.json")),
    ("plan delete", include_str!("plan-delete.json")),
    ("plan list", include_str!("plan-list.json")),
    ("plan modify", include_str!("plan.json")),
    ("plan resume", include_str!("plan.json")),
    ("plan run", include_str!("plan-run.json")),
    ("plan show", include_str!("plan.json")),
    ("plan suspend", include_str!("plan.json")),
    ("prune", include_str!("prune.json")),
    ("recover", include_str!("recover.json")),
    ("repair", include_str!("repair.json")),
    ("restore", include_str!("restore.json")),
    ("schema", include_str!("schema.json")),
    ("serve", include_str!("serve.json")),
    ("show", include_str!("show.json")),
    ("snapshot", include_str!("snapshot.json")),
    ("status", include_str!("status.json")),
    ("thaw", include_str!("thaw.json")),
    ("track", include_str!("track.json")),
    ("unmount", include_str!("unmount.json")),
    ("verify", include_str!("verify.json")),
];

/// The schema of the document that the command `name` prints, or of all documents.
///
/// # Errors
/// `Usage` for a name that no document has.
pub fn schema(name: Option<&str>) -> Result<Value> {
    name.map_or_else(all, one)
}

/// Every document under `$defs`, beside what they share.
fn all() -> Result<Value> {
    let mut parts = parsed("what is shared", SHARED)?;
    for (name, text) in DOCUMENTS {
        parts.insert(name.into(), parsed(name, text)?.into());
    }
    Ok(json!({
        "$schema": DIALECT,
        "title": "stillpoint",
        "description": "The documents that stillpoint prints with --json, by command. \
            Keys are only ever added.",
        "$defs": parts,
    }))
}

/// One document, with what it needs of the shared.
fn one(name: &str) -> Result<Value> {
    let found = DOCUMENTS.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| {
        let known = DOCUMENTS.map(|(known, _)| known).join(", ");
        Error::new(
            ErrorKind::Usage,
            format!("{name:?} is no command that prints a document"),
        )
        .with_hint(format!("name one of these: {known}"))
    })?;
    let shared = parsed("what is shared", SHARED)?;
    let mut schema = parsed(name, text)?;
    let mut needed = Map::new();
    let mut left = Vec::new();
    references(&Value::Object(schema.clone()), &mut left);
    while let Some(name) = left.pop() {
        if let Some(part) = shared.get(&name).filter(|_| !needed.contains_key(&name)) {
            references(part, &mut left);
            needed.insert(name, part.clone());
        }
    }
    schema.insert("$schema".into(), DIALECT.into());
    if !needed.is_empty() {
        schema.insert("$defs".into(), needed.into());
    }
    Ok(schema.into())
}

fn parsed(name: &str, text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Failed, format!("the schema of {name} is broken")).with_source(error)
    })
}

/// The names of the shared parts that this one refers to.
fn references(part: &Value, names: &mut Vec<String>) {
    match part {
        Value::Object(keys) => {
            let to = keys.get("$ref").and_then(Value::as_str);
            let name = to.and_then(|to| to.strip_prefix(REFERENCE));
            names.extend(name.and_then(|name| name.split('/').next()).map(Into::into));
            keys.values().for_each(|part| references(part, names));
        }
        Value::Array(parts) => parts.iter().for_each(|part| references(part, names)),
        _ => {}
    }
}
