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
