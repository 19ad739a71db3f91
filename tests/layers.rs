//! The walls between the layers, held by reading the sources.

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
    assert_eq!(offenders("src", "src/sync", &["sync::atomic"]), Vec::<String>::new());
}

/// What the models cannot see cannot be verified: every cell and every engine goes through the layer.
#[test]
fn only_the_sync_layer_knows_cells_and_what_the_models_run_on() {
    let words = ["core::cell", "std::cell", "loom::", "shuttle::", "static mut", "thread_local!"];
    let found = offenders("src", "src/sync", &words);
    let others: Vec<_> = found.iter().filter(|line| !line.contains("src/os/kernel.rs")).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// The models replace nothing above the two lowest layers but what is listed here: the slot, bounds, and their own entrance.
#[test]
fn the_code_that_the_models_explore_is_the_code_that_ships() {
    let found = offenders("src", "src/sync", &["cfg(loom)", "cfg(not(loom))", "cfg!(loom)", "cfg_attr(loom"]);
    let allowed = [
        "src/os/",
        "src/lib.rs",
        "src/metadata.rs",
        "src/block.rs",
        "src/options.rs",
        "src/size_class.rs",
        "src/arena/mod.rs",
        "src/tcache/mod.rs",
        "src/tcache/outbox.rs",
        "src/tcache/slot.rs",
    ];
    let others: Vec<_> = found.iter().filter(|line| !allowed.iter().any(|place| line.contains(place))).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(found.len() <= 30, "the models replace more and more: {found:#?}");
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
        ("src/tcache", &["crate::heap", "crate::c_face", "crate::statistics", "crate::verify"]),
    ] {
        assert_eq!(offenders(layer, "", above), Vec::<String>::new(), "{layer}");
    }
}
