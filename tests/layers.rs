//! The walls between the layers, held by reading the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn offenders(folder: &str, except: &str, words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let files = sources(&root.join(folder));
    assert!(!files.is_empty(), "{folder} has no sources");
    for path in files {
        if !except.is_empty() && path.starts_with(root.join(except)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        // What only the tests of a file use is theirs.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap();
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn only_the_sync_layer_names_the_atomics_of_core() {
    let words = ["sync::atomic", "core::sync", "std::sync", "intrinsics", "atomic_", "\"lock ", "\"xchg", "\"mfence"];
    // An exchange of a register with itself touches no memory; valgrind knows a request by it.
    let request = |line: &String| line.contains("src/os/valgrind.rs") && line.contains("\"xchg rbx, rbx\"");
    let found = offenders("src", "src/sync", &words);
    let others: Vec<_> = found.iter().filter(|line| !request(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// What the models cannot see cannot be verified: every cell and every engine goes through the layer.
#[test]
fn only_the_sync_layer_knows_cells_and_what_the_models_run_on() {
    let words = ["core::cell", "std::cell", "loom::", "shuttle::", "static mut", "thread_local!"];
    let found = offenders("src", "src/sync", &words);
    let others: Vec<_> = found.iter().filter(|line| !line.contains("src/os/kernel.rs")).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// What stands in for something while a model runs.
const STAND_INS: [&str; 5] = [
    "src/sync/model.rs",
    "src/sync/model/atomics.rs",
    "src/sync/orders.rs",
    "src/sync/whole_locks.rs",
    "src/os/kernel.rs",
];

/// Whether a line has to do with builds for models.
fn names_the_models(line: &str) -> bool {
    let has = |word: &str| line.split(|c: char| !c.is_alphanumeric()).any(|part| part == word);
    line.contains("cfg") && (has("loom") || has("shuttle"))
}

/// Every difference stands in docs/verification.md, with the reason why it is still the code that ships.
#[test]
fn the_code_that_the_models_explore_is_the_code_that_ships() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    for path in sources(&root.join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().map(|line| line.split("//").next().unwrap());
        let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let stand_in = STAND_INS.contains(&&*file);
        let places = if stand_in { 0 } else { code.filter(|line| names_the_models(line)).count() };
        if places > 0 || stand_in {
            found.insert(file, places);
        }
    }
    let page = fs::read_to_string(root.join("docs/verification.md")).unwrap();
    let section = page.split("## The models run the code that ships").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let file = cells.next()?.trim_matches('`').to_owned();
        Some((file, cells.next()?.parse::<usize>().ok()?))
    };
    let stated: BTreeMap<String, usize> = section.lines().filter_map(row).collect();
    assert_eq!(found, stated, "what models replace, in the sources and as stated in docs/verification.md");
}

/// A reader finds for each atomic operation the models that hold it: the page's rows are lines of the sources, none of the files
/// with operations is left out, and the models are there. That each operation is reached, the program in `loom-tests/` checks.
#[test]
fn the_page_names_a_model_for_each_atomic_operation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/verification.md")).unwrap();
    let table = page.split("<!-- atomics -->").nth(1).unwrap().split("<!-- end of atomics -->").next().unwrap();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (file, place) = (cells[1].trim_matches('`'), cells[2].trim_matches('`').replace('\u{1}', "|"));
        let text = fs::read_to_string(root.join("src").join(file)).unwrap();
        assert!(text.lines().any(|code| code.trim() == place), "{file} has no line `{place}`: fill the tables again");
        let excused = cells[3].contains(' ') && !cells[3].contains(", ");
        for model in cells[3].split(", ").filter(|_| !excused) {
            assert!(root.join(format!("loom-tests/models/{model}.rs")).exists(), "{file}: `{place}`: no model {model}");
        }
        *named.entry(file.to_owned()).or_default() += 1;
    }
    for path in sources(&root.join("src")) {
        let file = path.strip_prefix(root.join("src")).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        let orders = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"].map(|name| format!("Ordering::{name}"));
        let operates = code.lines().filter_map(|line| line.split("//").next());
        let operates = operates.filter(|line| orders.iter().any(|order| line.contains(order))).count() > 0;
        let stand_in = STAND_INS.contains(&&*format!("src/{file}"));
        assert!(!operates || stand_in || named.contains_key(&file), "no atomic operation of {file} stands in the page");
    }
}

#[test]
fn only_the_os_layer_calls_the_c_library() {
    let calls =
        ["libc::mmap", "libc::munmap", "libc::mremap", "libc::madvise", "libc::sbrk", "libc::syscall", "libc::write"];
    assert_eq!(offenders("src", "src/os", &calls), Vec::<String>::new());
}

#[test]
fn no_arrow_points_upwards() {
    for (layer, above) in [
        ("src/sync", &["crate::arena", "crate::large", "crate::tcache", "crate::heap"][..]),
        ("src/os", &["crate::arena", "crate::large", "crate::tcache", "crate::heap"]),
        ("src/arena", &["crate::large", "crate::tcache", "crate::heap", "crate::statistics"]),
        ("src/large", &["crate::arena", "crate::tcache", "crate::heap", "crate::statistics"]),
        // Nothing but the root, which whoever begins the process must name to keep it in the program.
        ("src/tcache", &["crate::inspect::walk", "crate::exposition"]),
        ("src/inspect", &["crate::heap", "crate::c_face", "crate::verify", "crate::exposition"]),
        ("src/tcache", &["crate::heap", "crate::c_face", "crate::statistics", "crate::verify"]),
    ] {
        assert_eq!(offenders(layer, "", above), Vec::<String>::new(), "{layer}");
    }
}
