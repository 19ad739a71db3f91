//! A table of JSON objects as an HTML page: many small pieces of text, gathered in one that grows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::{self, Write};

/// What is to be shown.
#[derive(Deserialize, Serialize)]
pub struct Page {
    pub title: String,
    pub rows: Vec<Map<String, Value>>,
}

/// The page, with a column for every name that any row has.
pub fn html(page: &Page) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, page);
    text
}

fn write(text: &mut String, Page { title, rows }: &Page) -> fmt::Result {
    let columns: BTreeSet<&String> = rows.iter().flat_map(Map::keys).collect();
    let title = escape(title);
    write!(text, "<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n<body><h1>{title}</h1>\n<table>\n<tr>")?;
    for column in &columns {
        write!(text, "<th>{}</th>", escape(column))?;
    }
    text.push_str("</tr>\n");
    for row in rows {
        text.push_str("<tr>");
        for column in &columns {
            let cell = match row.get(*column) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(string)) => escape(string),
                Some(other) => escape(&other.to_string()),
            };
            write!(text, "<td>{cell}</td>")?;
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table></body></html>\n");
    Ok(())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_name_gets_a_column_and_every_text_is_escaped() {
        let page = json!({ "title": "A & B", "rows": [{ "b": 1, "a": "<i>" }, { "c": ["\"'"], "a": null }] });
        let page = html(&serde_json::from_value(page).unwrap());
        assert!(page.contains("<title>A &amp; B</title>"), "{page}");
        assert!(page.contains("<tr><th>a</th><th>b</th><th>c</th></tr>"), "{page}");
        assert!(page.contains("<tr><td>&lt;i&gt;</td><td>1</td><td></td></tr>"), "{page}");
        assert!(page.contains("<tr><td></td><td></td><td>[&quot;\\&quot;&#39;&quot;]</td></tr>"), "{page}");
    }
}
