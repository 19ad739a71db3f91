//! The report as Markdown: the same tables, without plots.

use crate::report::{failures, runs};
use crate::results::{Face, Results};
use crate::tables::{
    Entry, QUANTILES, Row, SUBJECT, Samples, Standing, Table, Unit, Verdict, disturbed, face_name, quantile, tables,
    times,
};
use crate::targets::targets;
use std::fmt::Write;

/// The whole text.
pub fn page(results: &Results) -> String {
    let samples = Samples::new(results);
    let mut text = String::from("# Allocators side by side\n\n");
    let facts: Vec<String> = results.header.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let scale = results.header.settings.get("scale").map_or("1", String::as_str);
    let _ = writeln!(text, "{} runs, scale {scale}. {}.\n", runs(results), facts.join("; "));
    let (spoilt, all) = disturbed(results);
    if spoilt > 0 {
        let _ = writeln!(
            text,
            "{spoilt} of {all} samples of rows with one thread lost more than 5 % of the processor to other programs.\n"
        );
    }
    for reason in &results.header.missing {
        let _ = writeln!(text, "- Not available: {reason}");
    }
    for failure in failures(results) {
        let _ = writeln!(text, "- Failed: {failure}");
    }
    text.push_str("\nFigures are medians; ratios are to the best of the row within a run, with 95 % intervals.\n");
    let targets = targets(&samples);
    if !targets.is_empty() {
        text.push_str("\n## Goals\n\n| what | goal | found | reached |\n| --- | --- | --- | --- |\n");
        for target in targets {
            let reached = if target.met { "yes" } else { "**no**" };
            let _ = writeln!(text, "| {} | {} | {} | {reached} |", target.what, target.goal, target.found);
        }
    }
    for face in [Face::C, Face::Rust] {
        let tables = tables(&samples, face);
        if !tables.is_empty() {
            let _ = writeln!(text, "\n## {} face", face_name(face));
        }
        tables.iter().for_each(|table| text.push_str(&render(table)));
        text.push_str(&latency(&samples, face));
    }
    text
}

fn render(table: &Table) -> String {
    let mut text = format!("\n### {}\n\n{}\n\n| | {} |", table.title, table.note, table.columns.join(" | "));
    let own = table.columns.iter().any(|name| name == SUBJECT);
    if own {
        let _ = write!(text, " {SUBJECT} / best rival |");
    }
    let columns = table.columns.len() + usize::from(own);
    let _ = writeln!(text, "\n| --- |{}", " ---: |".repeat(columns));
    for row in &table.rows {
        let name = if row.mean { format!("**{}**", row.name) } else { row.name.clone() };
        let cells: Vec<String> = row.entries.iter().map(|entry| cell(entry.as_ref(), table.unit)).collect();
        let _ = write!(text, "| {name} | {} |", cells.join(" | "));
        let _ = writeln!(text, "{}", if own { format!(" {} |", standing(row)) } else { String::new() });
    }
    text
}

fn cell(entry: Option<&Entry>, unit: Unit) -> String {
    let Some(entry) = entry else { return "–".into() };
    let figure = entry.figure.map(|figure| unit.show(figure));
    let ratio = entry.ratio.map(|ratio| format!("{:.2}", ratio.median));
    match (figure, ratio) {
        (Some(figure), Some(ratio)) => format!("{figure} ({ratio})"),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => "–".into(),
    }
}

fn standing(row: &Row) -> String {
    let Some(standing @ Standing { ratio, rival }) = &row.standing else { return "–".into() };
    let word = match standing.verdict() {
        Verdict::Win => "win",
        Verdict::Tie => "tie",
        Verdict::Loss => "**loss**",
    };
    let rival = rival.as_ref().map_or(String::new(), |rival| format!(" ({rival})"));
    format!("{:.2} [{:.2}, {:.2}]{rival} {word}", ratio.median, ratio.low, ratio.high)
}

fn latency(samples: &Samples, face: Face) -> String {
    let times = times(samples, face);
    if times.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = QUANTILES.iter().map(|(_, name)| *name).collect();
    let mut text = format!(
        "\n### Times of single calls\n\nLess the clock's own cost.\n\n| | allocator | calls | {} |\n| --- | --- | ---: |{}\n",
        names.join(" | "),
        " ---: |".repeat(names.len())
    );
    for times in times {
        for (allocator, histogram, _) in &times.allocators {
            let cells: Vec<String> =
                QUANTILES.iter().map(|(share, _)| Unit::Time.show(quantile(histogram, *share))).collect();
            let _ = writeln!(
                text,
                "| {}: {} | {allocator} | {} | {} |",
                times.item,
                times.operation,
                Unit::Count.show(histogram.len() as f64),
                cells.join(" | ")
            );
        }
    }
    text
}
