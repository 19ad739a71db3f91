//! JSON texts parsed into trees of strings, lists and maps, read, and dropped.

use super::{Outcome, Work, digest};
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::thread;

#[derive(Debug, PartialEq)]
enum Value {
    Null,
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

/// Reads one value from the start of a text that [`write_value`] wrote; `None` if the text is none.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        if *first != byte {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    fn value(&mut self) -> Option<Value> {
        match self.rest.first()? {
            b'n' => "null".bytes().try_for_each(|byte| self.take(byte)).map(|()| Value::Null),
            b'"' => self.text().map(Value::Text),
            b'[' => {
                let mut list = Vec::new();
                self.sequence(b'[', b']', |reader| {
                    list.push(reader.value()?);
                    Some(())
                })?;
                Some(Value::List(list))
            }
            b'{' => {
                let mut map = BTreeMap::new();
                self.sequence(b'{', b'}', |reader| {
                    let key = reader.text()?;
                    reader.take(b':')?;
                    map.insert(key, reader.value()?);
                    Some(())
                })?;
                Some(Value::Map(map))
            }
            _ => self.number(),
        }
    }

    fn sequence(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        if self.take(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(b',').is_none() {
                return self.take(close);
            }
        }
    }

    /// A text grows byte by byte, as parsers that know escapes build it.
    fn text(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut text = String::new();
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(text),
                b'\\' => {
                    let (escaped, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    text.push(*escaped as char);
                }
                byte => text.push(*byte as char),
            }
        }
    }

    fn number(&mut self) -> Option<Value> {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        std::str::from_utf8(digits).ok()?.parse().ok().map(Value::Number)
    }
}

impl Value {
    fn read(&self) -> u64 {
        match self {
            Self::Null => 1,
            Self::Number(number) => *number as u64,
            Self::Text(text) => digest(text),
            Self::List(list) => list.iter().fold(7, |sum, item| sum.wrapping_mul(31).wrapping_add(item.read())),
            Self::Map(map) => {
                map.iter().fold(5, |sum, (key, value)| sum.wrapping_add(digest(key)).wrapping_add(value.read()))
            }
        }
    }
}

/// Appends a random value as text.
fn write_value(text: &mut String, rng: &mut Rng, depth: u32) {
    let kind = if depth == 0 { rng.below(4) } else { 2 + rng.below(6) };
    match kind {
        0 => text.push_str("null"),
        1 => drop(write!(text, "{}", rng.below(1 << 30) as i64 - (1 << 29))),
        2 | 3 => {
            text.push('"');
            for _ in 0..rng.below(40) {
                match rng.below(30) {
                    0 => text.push_str("\\\""),
                    letter => text.push((b'a' + (letter % 26) as u8) as char),
                }
            }
            text.push('"');
        }
        4 | 5 => {
            text.push('[');
            for place in 0..rng.below(8) {
                if place > 0 {
                    text.push(',');
                }
                write_value(text, rng, depth - 1);
            }
            text.push(']');
        }
        _ => {
            text.push('{');
            for place in 0..rng.below(8) {
                let _ = write!(text, "{}\"field {}\":", if place > 0 { "," } else { "" }, rng.below(100));
                write_value(text, rng, depth - 1);
            }
            text.push('}');
        }
    }
}

/// An array of `items` values.
fn document(rng: &mut Rng, items: usize) -> String {
    let mut text = String::from("[");
    for place in 0..items {
        if place > 0 {
            text.push(',');
        }
        write_value(&mut text, rng, 5);
    }
    text + "]"
}

fn parse_all(seed: u64, texts: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let documents: Vec<_> = (0..8).map(|_| document(&mut rng, 40)).collect();
    (0..texts).fold(1_u64, |checksum, number| {
        let mut reader = Reader { rest: documents[number as usize % documents.len()].as_bytes() };
        let value = reader.value().expect("the documents are valid");
        checksum.wrapping_mul(3).wrapping_add(value.read())
    })
}

pub fn run(work: Work) -> Outcome {
    let texts = work.amount(900);
    let threads: Vec<_> = (0..work.threads)
        .map(|index| {
            let share = work.share(texts, index);
            thread::spawn(move || parse_all(index as u64, share))
        })
        .collect();
    let checksum =
        threads.into_iter().fold(0_u64, |sum, thread| sum.wrapping_add(thread.join().expect("a thread ends well")));
    Outcome { operations: texts, checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Value> {
        Reader { rest: text.as_bytes() }.value()
    }

    #[test]
    fn a_text_becomes_its_value() {
        let map = BTreeMap::from([("k".into(), Value::Number(-3)), ("l".into(), Value::Null)]);
        let list = vec![Value::Text("a\"b".into()), Value::Map(map), Value::List(vec![])];
        assert_eq!(parse(r#"["a\"b",{"k":-3,"l":null},[]]"#), Some(Value::List(list)));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in ["", "[", "[1", "[1,]", "{\"a\"}", "nul", "\"open"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
