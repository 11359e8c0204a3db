//! One type a name, and no tuples among parameters.

use super::complain;
use super::source::{House, is_test};
use std::collections::BTreeMap;
use syn::visit::{self, Visit};
use syn::{FnArg, Pat, Signature, Type};

/// The types of a file, and its functions with tuples among their parameters.
#[derive(Default)]
struct Found {
    types: Vec<String>,
    tuples: Vec<String>,
}

impl<'a> Visit<'a> for Found {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.look(&item.sig);
        // What a function keeps for itself needs no name that others know.
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.look(&item.sig);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        self.look(&item.sig);
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.types.push(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.types.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.types.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
    }
}

fn is_tuple(kind: &Type) -> bool {
    match kind {
        Type::Tuple(_) => true,
        Type::Reference(to) => is_tuple(&to.elem),
        _ => false,
    }
}

impl Found {
    fn look(&mut self, signature: &Signature) {
        let tuple = signature.inputs.iter().any(|argument| match argument {
            FnArg::Typed(argument) => {
                matches!(*argument.pat, Pat::Tuple(_)) || is_tuple(&argument.ty)
            }
            FnArg::Receiver(_) => false,
        });
        if tuple {
            self.tuples.push(signature.ident.to_string());
        }
    }
}

/// Each file of the product with what was found in it.
fn found() -> Vec<(String, Found)> {
    let house = House::read();
    let look = |source: &super::source::Source| {
        let mut found = Found::default();
        found.visit_file(&source.syntax);
        (source.path.display().to_string(), found)
    };
    house.sources.iter().map(look).collect()
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, found) in found() {
        for name in found.types {
            places.entry(name).or_default().push(path.clone());
        }
    }
    assert!(places.len() > 200, "the types were found");
    let doubled = places.iter().filter(|(_, files)| files.len() > 1);
    let wrong: Vec<String> = doubled
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    complain(&wrong);
}

#[test]
fn no_parameter_is_a_tuple() {
    let mut wrong = Vec::new();
    for (path, found) in found() {
        wrong.extend(found.tuples.iter().map(|name| format!("{path}: {name}")));
    }
    complain(&wrong);
}
