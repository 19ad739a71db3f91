//! What a reader needs to place the figures: the machine, its settings, versions.

use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output();
    let text = done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".into() } else { text }
}

/// The word in brackets, as the kernel marks the setting in force.
fn chosen(text: &str) -> &str {
    text.split(['[', ']']).nth(1).unwrap_or("unknown")
}

/// The facts, in the order in which they are shown.
pub fn facts(root: &Path) -> Vec<(String, String)> {
    let processor = read("/proc/cpuinfo");
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let memory = memory.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / f64::from(1 << 20);
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let root = root.to_string_lossy();
    let facts = [
        ("date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("processor", processor.map_or("unknown", |(_, name)| name).to_owned()),
        ("processors that may be used", processors.to_string()),
        ("memory", format!("{memory:.0} GiB")),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("huge pages", chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")).to_owned()),
        ("load before the run", read("/proc/loadavg").split(' ').next().unwrap_or("unknown").to_owned()),
        ("compiler", output("rustc", &["--version"])),
        ("commit", output("git", &["-C", &root, "describe", "--always", "--dirty", "--abbrev=12"])),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_in_force_is_the_one_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen(""), "unknown");
    }

    #[test]
    fn every_fact_has_a_value() {
        for (name, value) in facts(Path::new(env!("CARGO_MANIFEST_DIR"))) {
            assert!(!value.is_empty(), "{name} has no value");
        }
    }
}
