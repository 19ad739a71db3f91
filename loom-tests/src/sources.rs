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
        let mut finder = Finder { file, text: &text, found: &mut found, named: 0 };
        let before = finder.found.len();
        finder.visit_file(&parsed);
        let (named, file) = (finder.named, finder.file);
        let given: usize = found[before..].iter().map(|operation| operation.orderings.len()).sum();
        assert_eq!(given, named, "{file}: an ordering is named that no operation is given");
    }
    found.sort();
    for pair in found.windows(2) {
        let same = pair[0].file == pair[1].file && pair[0].line == pair[1].line;
        let ordered = pair.iter().flat_map(|operation| &operation.orderings).any(|ordering| ordering != "Relaxed");
        assert!(!same || !ordered, "{}:{}: operations on one line are weakened together", pair[0].file, pair[0].line);
    }
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
    /// How many orderings are named anywhere, so that none is overlooked.
    named: usize,
}

const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

impl Finder<'_> {
    fn enter(&mut self, line: usize, name: String, orderings: Vec<String>) {
        if !orderings.is_empty() {
            let place = self.text.lines().nth(line - 1).unwrap().trim().to_owned();
            self.found.push(Operation { file: self.file.clone(), line, name, orderings, place });
        }
    }
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
        let LineColumn { line, .. } = call.method.span().start();
        self.enter(line, call.method.to_string(), call.args.iter().filter_map(ordering).collect());
        visit::visit_expr_method_call(self, call);
    }

    /// A fence, or an operation written as a function.
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && let Some(last) = function.path.segments.last()
        {
            let line = last.ident.span().start().line;
            self.enter(line, last.ident.to_string(), call.args.iter().filter_map(ordering).collect());
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.named += usize::from(ordering_of(path).is_some());
        visit::visit_path(self, path);
    }

    /// What a macro is given is not parsed: an ordering there would be overlooked.
    fn visit_macro(&mut self, written: &'ast syn::Macro) {
        let text = written.tokens.to_string();
        assert!(!text.contains("Ordering ::"), "{}: a macro is given an ordering: {text}", self.file);
        visit::visit_macro(self, written);
    }
}

/// The ordering that an argument names, if it does.
fn ordering(argument: &syn::Expr) -> Option<String> {
    let syn::Expr::Path(path) = argument else { return None };
    ordering_of(&path.path)
}

fn ordering_of(path: &syn::Path) -> Option<String> {
    let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    match &segments[..] {
        [.., kind, name] if kind == "Ordering" && ORDERINGS.contains(&&**name) => Some(name.clone()),
        _ => None,
    }
}
