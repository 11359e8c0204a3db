//! The product's files as syntax trees, and which file the name in a path belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// A module's place: `["engine", "restore"]`.
type Module = Vec<String>;

/// A file of `src`.
pub struct Source {
    /// From `src` on.
    pub path: PathBuf,
    pub module: Module,
    pub syntax: syn::File,
}

/// What a module brings into scope.
#[derive(Default)]
struct Scope {
    items: BTreeSet<String>,
    /// Names that stand for a path elsewhere.
    names: BTreeMap<String, Vec<String>>,
    /// Modules of which all names are taken.
    globs: Vec<Vec<String>>,
}

/// All files of the library.
pub struct House {
    pub sources: Vec<Source>,
    scopes: BTreeMap<Module, Scope>,
}

/// Whether an item is for tests alone.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Meta>()
                    .is_ok_and(|meta| meta.path().is_ident("test"))
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

impl House {
    /// Reads and parses `src`.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Vec::new();
        for file in super::files("src") {
            let path = file.path.strip_prefix(&root).unwrap().to_owned();
            let is_root = path == Path::new("main.rs") || path == Path::new("lib.rs");
            if path.extension().is_none_or(|ending| ending != "rs") || is_root {
                continue;
            }
            let mut module: Module = path
                .with_extension("")
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            module.pop_if(|last| last == "mod");
            // Tests in a file of their own.
            if module.last().is_some_and(|last| last == "tests") {
                continue;
            }
            let mut syntax = syn::parse_file(&file.text).unwrap();
            syntax.items.retain(|item| !is_test(attributes(item)));
            sources.push(Source {
                path,
                module,
                syntax,
            });
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        let mut scopes = BTreeMap::new();
        for source in &sources {
            enter(&source.module, &source.syntax.items, &mut scopes);
        }
        Self { sources, scopes }
    }

    /// The file that an absolute path belongs to: where its item is written, not where it is passed
    /// on. `None` for what is not of this crate.
    fn owner(&self, path: &[String]) -> Option<&Module> {
        let mut module = Vec::new();
        for (place, segment) in path.iter().enumerate() {
            module.push(segment.clone());
            if self.scopes.contains_key(&module) {
                continue;
            }
            module.pop();
            let scope = self.scopes.get(&module)?;
            if scope.items.contains(segment) {
                break;
            }
            let elsewhere = scope.names.get(segment).cloned().or_else(|| {
                let mut globs = scope.globs.iter();
                let from = globs.find(|from| self.has(from, segment))?;
                Some([from.as_slice(), std::slice::from_ref(segment)].concat())
            });
            let Some(mut elsewhere) = elsewhere else {
                break;
            };
            elsewhere.extend_from_slice(&path[place + 1..]);
            return self.owner(&elsewhere);
        }
        self.scopes.get_key_value(&module).map(|found| found.0)
    }

    fn has(&self, module: &[String], name: &str) -> bool {
        let scope = self.scopes.get(module);
        scope.is_some_and(|scope| scope.items.contains(name) || scope.names.contains_key(name))
    }

    /// The files that this one needs: whose items its code or its imports name. What it only passes
    /// on (`pub use`) it does not need.
    pub fn needs(&self, source: &Source) -> BTreeSet<usize> {
        let mut paths = Paths {
            module: source.module.clone(),
            found: Vec::new(),
        };
        paths.visit_file(&source.syntax);
        let files: BTreeMap<&Module, usize> = (0..)
            .zip(&self.sources)
            .map(|(n, s)| (&s.module, n))
            .collect();
        paths
            .found
            .iter()
            .filter_map(|path| {
                let mut owner = self.owner(path)?.clone();
                // A module that is written in a file belongs to it.
                while !files.contains_key(&owner) {
                    owner.pop()?;
                }
                (owner != source.module).then(|| files[&owner])
            })
            .collect()
    }
}

/// What the items bring into the scope of their module, and those of modules among them.
fn enter(module: &[String], items: &[Item], scopes: &mut BTreeMap<Module, Scope>) {
    let mut scope = Scope::default();
    for item in items {
        if let Item::Use(item) = item {
            let mut leaves = Vec::new();
            unfold(&item.tree, &mut Vec::new(), &mut leaves);
            for (name, path) in leaves {
                let Some(path) = absolute(module, &path) else {
                    continue;
                };
                if name == "*" {
                    scope.globs.push(path);
                } else {
                    scope.names.insert(name, path);
                }
            }
        }
        if let Item::Mod(item) = item
            && let Some((_, inner)) = &item.content
        {
            let inside = [module, &[item.ident.to_string()]].concat();
            enter(&inside, inner, scopes);
        }
        scope.items.extend(name(item));
    }
    scopes.insert(module.to_vec(), scope);
}

/// Each name that a `use` brings in, with its path.
fn unfold(tree: &UseTree, before: &mut Vec<String>, leaves: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(tree) => {
            before.push(tree.ident.to_string());
            unfold(&tree.tree, before, leaves);
            before.pop();
        }
        UseTree::Name(tree) => {
            let name = tree.ident.to_string();
            let mut path = before.clone();
            let name = if name == "self" {
                path.last().cloned().unwrap_or_default()
            } else {
                path.push(name.clone());
                name
            };
            leaves.push((name, path));
        }
        UseTree::Rename(tree) => {
            let path = [before.as_slice(), &[tree.ident.to_string()]].concat();
            leaves.push((tree.rename.to_string(), path));
        }
        UseTree::Glob(_) => leaves.push(("*".into(), before.clone())),
        UseTree::Group(tree) => {
            for tree in &tree.items {
                unfold(tree, before, leaves);
            }
        }
    }
}

/// A path that begins with `crate`, `super` or `self`, from the crate's root on.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module.split_last()?.1.to_vec(),
        // `pub use child::Name` of a module's own children.
        _ => [module, &path[..1]].concat(),
    };
    for segment in &path[1..] {
        if segment == "super" {
            base.pop()?;
        } else {
            base.push(segment.clone());
        }
    }
    Some(base)
}

/// Finds all paths into the crate that code names.
struct Paths {
    module: Module,
    found: Vec<Vec<String>>,
}

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a Item) {
        if is_test(attributes(item)) {
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if !matches!(item.vis, Visibility::Inherited) {
            return;
        }
        let mut leaves = Vec::new();
        unfold(&item.tree, &mut Vec::new(), &mut leaves);
        let paths = leaves
            .iter()
            .filter_map(|leaf| absolute(&self.module, &leaf.1));
        self.found.extend(paths);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.found.extend(absolute(&self.module, &segments));
        }
        visit::visit_path(self, path);
    }
}
