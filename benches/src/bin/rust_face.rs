//! The Rust face: each allocator through `GlobalAlloc`, called directly and statically dispatched. The heaps are those whose
//! features the program was built with; `heaps` lists them.

use std::process::ExitCode;
use terrace_bench::command::{self, Command};
use terrace_bench::harness_memory::MappedMemory;
use terrace_bench::heaps;

#[global_allocator]
static HARNESS: MappedMemory = MappedMemory;

type Runner = fn(&str, &str, command::Amount) -> Result<(), String>;

const HEAPS: &[(&str, Runner)] = &[
    #[cfg(feature = "terrace")]
    ("terrace", command::run::<heaps::Terrace>),
    #[cfg(all(feature = "mimalloc", not(feature = "mimalloc-v2")))]
    ("mimalloc-v3", command::run::<heaps::Mimalloc>),
    #[cfg(feature = "mimalloc-v2")]
    ("mimalloc-v2", command::run::<heaps::Mimalloc>),
    #[cfg(feature = "jemalloc")]
    ("jemalloc", command::run::<heaps::Jemalloc>),
    #[cfg(feature = "snmalloc")]
    ("snmalloc", command::run::<heaps::Snmalloc>),
    #[cfg(feature = "rusty-alloc")]
    ("rusty-alloc", command::run::<heaps::RustyAlloc>),
    #[cfg(feature = "rallocator")]
    ("rallocator", command::run::<heaps::Rallocator>),
    ("glibc", command::run::<heaps::Glibc>),
    ("nothing", command::run::<heaps::Nothing>),
];

fn execute(command: Command) -> Result<(), String> {
    let Command::Run { heap, row, amount } = command else {
        command::list::<heaps::Glibc>();
        return Ok(());
    };
    let Some((label, run)) = HEAPS.iter().find(|(name, _)| *name == heap) else {
        let known: Vec<_> = HEAPS.iter().map(|(name, _)| *name).collect();
        return Err(format!("this build has no heap {heap}, only {}", known.join(", ")));
    };
    run(label, &row, amount)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Command::parse(&arguments).and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rust_face: {message}");
            ExitCode::FAILURE
        }
    }
}
