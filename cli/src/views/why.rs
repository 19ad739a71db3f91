//! `terrace why`: where a process's memory is, whether it grows, and what to do about it, in plain words.

use crate::ledger::{ClassParts, Ledger, live_bytes, worst_fragmented, zones};
use crate::snapshot::{CacheState, Class, Content, Snapshot, Source};
use crate::units::{Count, Many, Milliseconds, Share, Size};
use std::fmt::Write;

/// A part that is smaller than this part of resident memory gets no advice.
const WORTH_A_WORD: u64 = 10;
/// Memory that is free for this many times the purge delay is overdue: threads that work do their housekeeping more often.
const OVERDUE: u64 = 3;
/// Where the purge delay is not known, memory that is free for longer than this many milliseconds is overdue.
const LONG: u64 = 60_000;
/// Less than this, in bytes, is noise between two looks.
const NOISE: u64 = 256 << 10;

/// The verdict on a process after one look, or two.
pub fn verdict(first: &Snapshot, second: Option<&Snapshot>) -> String {
    let now = second.unwrap_or(first);
    let ledger = Ledger::of(now);
    let growth = second.map(|second| Growth::between(first, second));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = headline(&mut text, now, &ledger)
        .and_then(|()| accounts(&mut text, now, &ledger))
        .and_then(|()| biggest(&mut text, now))
        .and_then(|()| trend(&mut text, now, growth.as_ref()))
        .and_then(|()| advice(&mut text, now, &ledger, growth.as_ref()))
        .and_then(|()| super::write_notes(&mut text, now));
    text
}

/// What changed between two looks at one process, in bytes.
struct Growth {
    milliseconds: u64,
    live: i64,
    held: i64,
    outside: i64,
    /// The block size whose live bytes grew most, and by how many blocks.
    class: Option<(u64, i64)>,
    live_limit: u64,
    held_limit: u64,
}

impl Growth {
    fn between(first: &Snapshot, second: &Snapshot) -> Self {
        let (before, after) = (Ledger::of(first), Ledger::of(second));
        let change = |before: u64, after: u64| after.cast_signed() - before.cast_signed();
        let blocks = |snapshot: &Snapshot, size| {
            snapshot.classes.iter().find(|class| class.block_bytes == size).map_or(0, |class| class.live)
        };
        let class = second
            .classes
            .iter()
            .map(|class| (class.block_bytes, change(blocks(first, class.block_bytes), class.live)))
            .max_by_key(|&(size, more)| more * size.cast_signed())
            .filter(|&(_, more)| more > 0);
        Self {
            milliseconds: second.process.time_ms.saturating_sub(first.process.time_ms).max(1),
            live: change(live_bytes(first), live_bytes(second)),
            held: change(before.held(), after.held()),
            outside: change(before.outside(), after.outside()),
            class,
            live_limit: NOISE.max(live_bytes(first) / 200),
            held_limit: NOISE.max(before.held() / 50),
        }
    }

    fn is_live_growing(&self) -> bool {
        self.live > self.live_limit.cast_signed()
    }

    fn is_held_growing(&self) -> bool {
        self.held > self.held_limit.cast_signed()
    }

    fn is_outside_growing(&self) -> bool {
        self.outside > NOISE.cast_signed()
    }
}

fn headline(text: &mut String, now: &Snapshot, ledger: &Ledger) -> std::fmt::Result {
    let process = &now.process;
    let place = match process.source {
        Source::Core => format!("{} (core file of process {})", process.name, process.pid),
        Source::Stopped => format!("{} (process {}, stopped)", process.name, process.pid),
        Source::Live => format!("{} (process {})", process.name, process.pid),
    };
    let resident = ledger.resident;
    writeln!(text, "{place} has {} in memory:", Size(resident))?;
    writeln!(
        text,
        "  {} ({}) are blocks that the program holds, {} ({}) is held by the allocator, {} ({}) is not the heap's.",
        Size(ledger.live()),
        Share(ledger.live(), resident),
        Size(ledger.held()),
        Share(ledger.held(), resident),
        Size(ledger.outside()),
        Share(ledger.outside(), resident),
    )?;
    let untouched = live_bytes(now).saturating_sub(ledger.live());
    if untouched > NOISE.max(resident / 100) {
        writeln!(text, "  The program was given {} more that it never wrote to; it costs no memory.", Size(untouched))?;
    }
    if let Some(checked) = now.checked {
        writeln!(
            text,
            "  Checks are on: of its blocks {} in {} are freed and in quarantine; the others have {}, and red zones or guards.",
            Size(checked.quarantined_bytes),
            Many(checked.quarantined, "block"),
            Size(checked.live_bytes),
        )?;
    }
    if process.swapped_bytes > 0 {
        writeln!(text, "  Another {} of it was swapped out.", Size(process.swapped_bytes))?;
    }
    Ok(())
}

fn accounts(text: &mut String, now: &Snapshot, ledger: &Ledger) -> std::fmt::Result {
    writeln!(text, "\nWhere it is")?;
    let mut line = |indent: usize, name: &str, bytes: u64, remark: &str| -> std::fmt::Result {
        let width = 42 - indent;
        let share = Share(bytes, ledger.resident);
        let line = format!("{:indent$}{name:<width$}{:>11}  {share:>5}  {remark}", "", Size(bytes));
        writeln!(text, "{}", line.trim_end())
    };
    let small: u64 = now.classes.iter().map(|class| class.live).sum();
    let medium = zones(now).filter(|zone| zone.content == Content::Medium).count() as u64;
    let large = now.large.iter().filter(|large| large.is_live).count() as u64;
    let blocks = |count| Many(count, "block").to_string();
    let attached = now.caches.iter().filter(|cache| cache.state == CacheState::Attached).count() as u64;

    line(2, "blocks that the program holds", ledger.live(), "")?;
    line(4, "small, up to 32 KiB", ledger.small, &blocks(small))?;
    line(4, "medium, with pages of their own", ledger.medium, &blocks(medium))?;
    line(4, "large, with a mapping of their own", ledger.large, &blocks(large))?;
    line(2, "held by the allocator", ledger.held(), "")?;
    line(4, "thread caches: at hand", ledger.magazines, &format!("of {}", Many(attached, "thread")))?;
    line(4, "thread caches: on the way home", ledger.in_transit, "freed by another thread")?;
    line(4, "fragmentation: free blocks", ledger.listed, "between blocks in use")?;
    line(4, "fragmentation: left over in slabs", ledger.slack, "rounding, not yet carved")?;
    line(4, "decay: free pages", ledger.dirty, &due(now, free_pages(now)))?;
    line(4, "decay: free large mappings", ledger.large_kept, &due(now, free_mappings(now)))?;
    line(4, "the allocator's own tables", ledger.metadata, "")?;
    if ledger.stray > 0 {
        line(4, "free pages touched by others, or unknown", ledger.stray, "")?;
    }
    line(2, "not the heap's", ledger.outside(), "")?;
    line(4, "program, libraries, mapped files", ledger.files, "")?;
    line(4, "the main thread's stack", ledger.stacks, "")?;
    line(4, "other memory, threads' stacks", ledger.anonymous, "")?;
    if ledger.unexplained != 0 {
        let sign = if ledger.unexplained < 0 { "less" } else { "more" };
        line(
            2,
            "changed while looking",
            ledger.unexplained.unsigned_abs(),
            &format!("the kernel counts so much {sign}"),
        )?;
    }
    line(2, "resident memory, the sum", ledger.resident, "")?;
    Ok(())
}

fn purge_delay(now: &Snapshot) -> Option<u64> {
    now.options.iter().find(|setting| setting.name == "purge_delay_ms")?.value.parse().ok()
}

/// Bytes in memory and age of what waits for the purge delay.
type Waiting = Vec<(u64, Option<u64>)>;

fn free_pages(now: &Snapshot) -> Waiting {
    let dirty = |zone: &crate::snapshot::Zone| match zone.content {
        Content::Dirty { free_ms } => Some((zone.resident_bytes, free_ms)),
        _ => None,
    };
    zones(now).filter_map(dirty).collect()
}

fn free_mappings(now: &Snapshot) -> Waiting {
    now.large.iter().filter(|large| !large.is_live).map(|large| (large.resident_bytes, large.free_ms)).collect()
}

/// How much of what waits should have gone back long ago, in bytes.
fn overdue(now: &Snapshot, waiting: &Waiting) -> u64 {
    let limit = purge_delay(now).map_or(LONG, |delay| (delay * OVERDUE).max(delay + 1000));
    waiting.iter().filter(|(_, age)| age.is_some_and(|age| age > limit)).map(|(bytes, _)| bytes).sum()
}

fn due(now: &Snapshot, waiting: Waiting) -> String {
    let late = overdue(now, &waiting);
    match purge_delay(now) {
        _ if waiting.iter().all(|&(bytes, _)| bytes == 0) => String::new(),
        Some(delay) if late == 0 => format!("not yet due: kept for {}", Milliseconds(delay)),
        _ if late > 0 => format!("{} of it overdue", Size(late)),
        _ => waiting
            .iter()
            .filter_map(|&(_, age)| age)
            .max()
            .map_or_else(String::new, |age| format!("free for up to {}", Milliseconds(age))),
    }
}

fn biggest(text: &mut String, now: &Snapshot) -> std::fmt::Result {
    let mut classes: Vec<&Class> = now.classes.iter().filter(|class| class.live > 0).collect();
    classes.sort_by_key(|class| (std::cmp::Reverse(class.live * class.block_bytes), class.block_bytes));
    writeln!(text, "\nMost of the small blocks in use")?;
    for class in classes.iter().take(3) {
        writeln!(
            text,
            "  {:>10} in {} of {} bytes",
            Size(class.live * class.block_bytes),
            Many(class.live, "block"),
            class.block_bytes
        )?;
    }
    writeln!(text, "Most of the fragmentation")?;
    for (class, parts) in worst_fragmented(now).iter().take(3) {
        writeln!(
            text,
            "  {:>10} among blocks of {} bytes: {} of their slabs' memory is free",
            Size(parts.fragmentation()),
            class.block_bytes,
            Share(parts.fragmentation(), class.resident_bytes)
        )?;
    }
    Ok(())
}

fn trend(text: &mut String, now: &Snapshot, growth: Option<&Growth>) -> std::fmt::Result {
    writeln!(text, "\nWhether it grows")?;
    let Some(growth) = growth else {
        return writeln!(
            text,
            "  {}",
            match now.process.source {
                Source::Core => "A core file is one moment: it cannot tell.",
                Source::Stopped => "The process is stopped.",
                Source::Live => "One look cannot tell.",
            }
        );
    };
    let time = Milliseconds(growth.milliseconds);
    let change = |bytes: i64| format!("{}{}", if bytes < 0 { "-" } else { "+" }, Size(bytes.unsigned_abs()));
    let word = |is_growing, bytes: i64, limit: u64| match () {
        () if is_growing => "grows",
        () if -bytes > limit.cast_signed() => "shrinks",
        () => "stays",
    };
    let live_word = word(growth.is_live_growing(), growth.live, growth.live_limit);
    write!(text, "  What the program holds {live_word}: {} in {time}", change(growth.live))?;
    match growth.class {
        Some((size, more)) if growth.is_live_growing() => {
            writeln!(text, ", most of it blocks of {size} bytes (+{}).", Count(more.unsigned_abs()))?;
        }
        _ => writeln!(text, ".")?,
    }
    let held_word = word(growth.is_held_growing(), growth.held, growth.held_limit);
    writeln!(text, "  What the allocator holds {held_word}: {} in {time}.", change(growth.held))?;
    let outside_word = word(growth.is_outside_growing(), growth.outside, NOISE);
    writeln!(text, "  The rest of the process {outside_word}: {} in {time}.", change(growth.outside))
}

fn advice(text: &mut String, now: &Snapshot, ledger: &Ledger, growth: Option<&Growth>) -> std::fmt::Result {
    let worth_it = |bytes: u64| bytes > NOISE && bytes > ledger.resident / WORTH_A_WORD;
    let late = overdue(now, &free_pages(now)) + overdue(now, &free_mappings(now));
    let mut points = Vec::new();
    if growth.is_some_and(Growth::is_live_growing) {
        points.push(
            "The program takes more than it frees. If that goes on for longer than its work explains, it leaks or caches \
             without a bound: look again with --interval 60; no option of the allocator helps against that."
                .to_owned(),
        );
    }
    if growth.is_some_and(Growth::is_held_growing) {
        points.push(
            "What is freed stays with the allocator for now. That is what a burst leaves for the purge delay; if it goes on \
             (--interval 60), the accounts above that grow say why."
                .to_owned(),
        );
    }
    if growth.is_some_and(Growth::is_outside_growing) || ledger.outside() > ledger.resident / 2 {
        points.push(
            "Memory outside of the heap counts here: files that are mapped, threads' stacks, what the program maps itself. \
             /proc/PID/smaps lists it, and so does `terrace map`."
                .to_owned(),
        );
    }
    if late > NOISE && worth_it(late.saturating_mul(2)) {
        points.push(format!(
            "{} is long due to go back to the kernel, but no thread of the process has had a reason to look: it is idle. \
             Have it call malloc_trim(0), or terrace::purge() in Rust, before it rests.",
            Size(late)
        ));
    } else if worth_it(ledger.decaying()) {
        let delay = purge_delay(now).map_or_else(String::new, |delay| format!(" (now {delay})"));
        points.push(format!(
            "Freed pages and mappings wait for reuse and go back by themselves. TERRACE_PURGE_DELAY_MS{delay} says for how \
             long; smaller is less memory and more page faults."
        ));
    }
    if worth_it(ledger.fragmentation())
        && let Some((class, parts)) = worst_fragmented(now).first()
    {
        points.push(fragmentation_advice(class, parts));
    }
    if worth_it(ledger.caches()) {
        points.push(format!(
            "Thread caches hold {}. Each thread keeps up to 32 KiB of each size that it uses; fewer threads, or threads that end \
             when idle, keep less.",
            Size(ledger.caches())
        ));
    }
    if let Some(setting) = now.options.iter().find(|setting| setting.name == "trim_threshold" && setting.value != "0") {
        points.push(format!(
            "TERRACE_TRIM_THRESHOLD has each arena keep {} bytes of free pages, however old; 0 keeps none.",
            setting.value
        ));
    }
    if points.is_empty() {
        points.push(if worth_it(ledger.live()) {
            "Nearly all that the heap has is in use: only the program can make it smaller.".to_owned()
        } else {
            "Nothing: no account is large enough to be worth an option.".to_owned()
        });
    }
    writeln!(text, "\nWhat to do")?;
    points.iter().try_for_each(|point| write_point(text, point))
}

fn fragmentation_advice(class: &Class, parts: &ClassParts) -> String {
    format!(
        "Free blocks share pages with blocks in use, most of all those of {} bytes ({} in {}). New blocks of that size \
         take that room first; it goes back to the kernel only when whole pages are free. If a burst left it, freeing what \
         outlived the burst, or making long-lived blocks before it, is what helps.",
        class.block_bytes,
        Size(parts.fragmentation()),
        Many(class.slabs.into(), "slab")
    )
}

/// Writes a paragraph as a list item, broken into lines of at most 100 characters.
fn write_point(text: &mut String, point: &str) -> std::fmt::Result {
    let mut column = 0;
    for word in point.split_whitespace() {
        if column == 0 {
            write!(text, "  - {word}")?;
            column = 4;
        } else if column + 1 + word.chars().count() > 100 {
            write!(text, "\n    {word}")?;
            column = 4;
        } else {
            write!(text, " {word}")?;
            column += 1;
        }
        column += word.chars().count();
    }
    writeln!(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Checked, sample};
    use crate::views::golden;

    #[test]
    fn the_verdict_of_one_look() {
        golden("why-once.txt", &verdict(&sample(), None));
    }

    /// The sample, a second later.
    fn later() -> Snapshot {
        let mut later = sample();
        later.process.time_ms += 1000;
        later
    }

    #[test]
    fn a_leak_is_told_from_what_the_allocator_holds() {
        let mut leaking = later();
        let class = leaking.classes.iter_mut().find(|class| class.block_bytes == 112).unwrap();
        class.live += 10_000;
        class.resident_bytes += 1_120_000;
        leaking.process.resident_bytes += 1_120_000;
        golden("why-leak.txt", &verdict(&sample(), Some(&leaking)));
    }

    #[test]
    fn retention_that_grows_is_not_called_a_leak() {
        let mut retaining = later();
        retaining.large[2].resident_bytes += 2 << 20;
        retaining.process.resident_bytes += 2 << 20;
        let text = verdict(&sample(), Some(&retaining));
        assert!(text.contains("What the program holds stays: +0 B"), "{text}");
        assert!(text.contains("What the allocator holds grows: +2.0 MiB in 1000 ms"), "{text}");
        assert!(text.contains("- What is freed stays with the allocator"), "{text}");
        assert!(!text.contains("takes more than it frees"), "{text}");
    }

    #[test]
    fn what_is_in_quarantine_is_said() {
        let mut now = sample();
        now.checked = Some(Checked { live: 5, live_bytes: 1 << 20, quarantined: 1, quarantined_bytes: 4096 });
        let text = verdict(&now, None);
        assert!(
            text.contains("of its blocks 4.0 KiB in 1 block are freed and in quarantine; the others have 1.0 MiB"),
            "{text}"
        );
    }

    #[test]
    fn memory_that_an_idle_process_forgot_is_overdue() {
        let mut idle = sample();
        for large in &mut idle.large {
            large.free_ms = large.free_ms.map(|_| 60_000);
        }
        let text = verdict(&idle, None);
        assert!(text.contains("3.0 MiB of it overdue") && text.contains("malloc_trim(0)"), "{text}");
    }

    #[test]
    fn where_the_purge_delay_is_not_known_the_age_is_told() {
        let mut snapshot = sample();
        snapshot.options.clear();
        let text = verdict(&snapshot, None);
        assert!(text.contains("3.0 MiB   14 %  free for up to 640 ms\n") && !text.contains("overdue"), "{text}");
    }
}
