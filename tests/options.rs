//! Options by calls from Rust, and their table in the documentation.

use std::fmt::Write;

#[test]
fn the_table_in_the_documentation_is_the_one_in_the_code() {
    let page = include_str!("../docs/options.md");
    let mut table = String::from("| variable | name | values | default | meaning |\n|---|---|---|---|---|\n");
    for option in terrace::options() {
        writeln!(table, "{option}").unwrap();
    }
    let start = page.find("| variable ").expect("the page has a table");
    let end = page[start..].find("\n\n").map_or(page.len(), |length| start + length + 1);
    assert_eq!(&page[start..end], table, "docs/options.md should have this table:\n{table}");
}

#[test]
fn a_call_sets_an_option_or_says_why_not() {
    let before = terrace::statistics().large.0;
    // How many blocks have mappings of their own while there is one more of 200,000 bytes.
    let own = || {
        use std::alloc::{GlobalAlloc, Layout};
        let layout = Layout::from_size_align(200_000, 8).unwrap();
        // SAFETY: the layout is not empty.
        let block = unsafe { terrace::Terrace.alloc(layout) };
        let large = terrace::statistics().large.0;
        // SAFETY: it is a block of this layout.
        unsafe { terrace::Terrace.dealloc(block, layout) };
        large
    };
    assert_eq!(own(), before);
    terrace::set_option("mmap_threshold", "65536").unwrap();
    assert_eq!(own(), before + 1);
    terrace::set_option("MMAP_THRESHOLD", "1048576").unwrap();
    assert_eq!(own(), before);
    let refused = terrace::set_option("mmap_threshold", "1").unwrap_err();
    assert_eq!(refused.to_string(), "mmap_threshold must be a number from 32768 to 4128768");
    let unknown = terrace::set_option("mmap_treshold", "65536").unwrap_err();
    assert_eq!(unknown.to_string(), "there is no such option; the nearest is mmap_threshold");
    assert_eq!(own(), before);
}
