//! `cargo xtask criterion`: builds the rivals' shared objects and starts criterion's benchmarks with them.

use crate::workshop::{C_ALLOCATORS, RUST_ALLOCATORS, Workshop, feature_of};
use clap::Args;
use std::process::Command;

/// What to run
#[derive(Args, Debug)]
pub struct Options {
    /// Allocators; mimalloc's two versions cannot be linked together, so the second is on the C face alone [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    allocators: Vec<String>,

    /// Do not install Debian's packages of the rivals
    #[arg(long)]
    no_install: bool,

    /// What criterion is given, such as a part of the rows' names
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs them. Returns whether they succeeded.
///
/// # Errors
/// A sentence.
pub fn run(options: &Options) -> Result<bool, String> {
    let mut shop = Workshop::new(!options.no_install, None)?;
    let chosen = |name: &str| options.allocators.is_empty() || options.allocators.iter().any(|wanted| wanted == name);
    // The C library's allocator is always there, and not loaded a second time.
    let wanted: Vec<String> =
        C_ALLOCATORS.iter().filter(|name| chosen(name) && **name != "glibc").map(|name| (*name).to_owned()).collect();
    let objects: Vec<String> = shop
        .preloads(&wanted, None)
        .into_iter()
        .filter_map(|(name, object)| Some(format!("{name}={}", object?.display())))
        .collect();
    let features: Vec<&str> = RUST_ALLOCATORS
        .iter()
        .filter(|name| chosen(name) && !["glibc", "mimalloc-v2"].contains(name))
        .map(|name| feature_of(name))
        .collect();
    let mut command = Command::new("cargo");
    command.current_dir(shop.root.join("benches")).env("BENCH_LIBRARIES", objects.join(","));
    command.args(["bench", "--bench", "allocators", "--features", &features.join(","), "--"]);
    let status = command.args(&options.arguments).status().map_err(|error| error.to_string())?;
    for reason in &shop.missing {
        eprintln!("not available: {reason}");
    }
    Ok(status.success())
}
