//! `terrace map --html`: one page that shows the map and needs no other file, nor the network.

use super::svg::{self, Escaped};
use crate::ledger::{Ledger, worst_fragmented};
use crate::snapshot::Snapshot;
use serde_json::json;

const PAGE: &str = include_str!("map.html");
const STYLE: &str = include_str!("map.css");
const SCRIPT: &str = include_str!("map.js");

/// The page.
pub fn page(snapshot: &Snapshot) -> String {
    let title = format!("{} (process {})", snapshot.process.name, snapshot.process.pid);
    // In a script element, only `<` could end it.
    let data = super::json(snapshot).replace('<', "\\u003c");
    let derived = derived(snapshot).to_string().replace('<', "\\u003c");
    let verdict = super::why::verdict(snapshot, None);
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + data.len());
    let mut rest = PAGE;
    while let Some((before, place)) = rest.split_once("{{") {
        let (name, after) = place.split_once("}}").unwrap_or((place, ""));
        page.push_str(before);
        match name {
            "title" => page.push_str(&Escaped(&title).to_string()),
            "style" => page.push_str(STYLE),
            "script" => page.push_str(SCRIPT),
            "snapshot" => page.push_str(&data),
            "derived" => page.push_str(&derived),
            "verdict" => page.extend(verdict.split_inclusive('\n').map(escaped_line)),
            other => unreachable!("the page has no place called {other}"),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// What the page shows beside the snapshot, and does not work out anew.
fn derived(snapshot: &Snapshot) -> serde_json::Value {
    let accounts = svg::accounts(&Ledger::of(snapshot));
    let accounts =
        accounts.map(|(name, bytes, colour)| json!({"name": name, "bytes": bytes, "colour": colour.to_string()}));
    let worst = worst_fragmented(snapshot).into_iter().map(|(class, parts)| {
        json!({
            "block_bytes": class.block_bytes,
            "free_bytes": parts.fragmentation(),
            "resident_bytes": class.resident_bytes,
            "slabs": class.slabs,
            "live": class.live,
            "listed": class.listed,
            "in_magazines": class.in_magazines,
        })
    });
    json!({"accounts": accounts, "worst": worst.collect::<Vec<_>>()})
}

/// A line of text as markup, with its end.
fn escaped_line(line: &str) -> String {
    format!("{}\n", Escaped(line.trim_end_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    #[test]
    fn the_page_holds_everything_and_asks_for_nothing() {
        let page = page(&sample());
        assert!(!page.contains("{{"), "a place was left empty");
        let (_, data) = page.split_once("<script type=\"application/json\" id=\"snapshot\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(data).unwrap(), sample());
        for outside in ["src=", "href=", "@import", "url(", "fetch(", "import("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn a_name_cannot_end_the_script_nor_begin_one() {
        let mut snapshot = sample();
        snapshot.process.name = "</script><script>alert(1)//".to_owned();
        let page = page(&snapshot);
        assert!(!page.contains("<script>alert") && !page.contains("</script><script>a"), "{page}");
        let (_, data) = page.split_once("id=\"snapshot\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(data).unwrap(), snapshot);
    }
}
