//! The atomic operations in the allocator's sources, found by reading them: what the models have to reach.

use proc_macro2::LineColumn;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// The orderings that one call is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    /// From the repository's root.
    pub file: String,
    /// Where the operation's name stands.
    pub line: usize,
    pub name: String,
    pub orderings: Vec<String>,
    /// The place that it is made on, as it is written.
    pub place: String,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All operations of the crate `terrace`, less its tests.
pub fn operations() -> Vec<Operation> {
    let mut found = Vec::new();
    for path in files(&root().join("src")) {
        let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if super::check::shipped(&file).is_none() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        Finder { file, text: &text, found: &mut found }.visit_file(&parsed);
    }
    found.sort();
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

struct Finder<'a> {
    file: String,
    text: &'a str,
    found: &'a mut Vec<Operation>,
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let orderings: Vec<String> = call.args.iter().filter_map(ordering).collect();
        if !orderings.is_empty() {
            let LineColumn { line, .. } = call.method.span().start();
            let written = self.text.lines().nth(line - 1).unwrap().trim().to_owned();
            self.found.push(Operation {
                file: self.file.clone(),
                line,
                name: call.method.to_string(),
                orderings,
                place: written,
            });
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// The ordering that an argument names, if it does.
fn ordering(argument: &syn::Expr) -> Option<String> {
    let syn::Expr::Path(path) = argument else { return None };
    let segments: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    match &segments[..] {
        [kind, name] if kind == "Ordering" => Some(name.clone()),
        _ => None,
    }
}
