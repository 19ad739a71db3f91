//! What the watcher told, read back: a record for each call. Its text is described where it is written, in
//! `watch/src/blocks.rs`.

/// A block of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The header's address.
    pub address: usize,
    /// Bytes of payload.
    pub size: usize,
    /// 0 for free, 1 for allocated.
    pub status: i32,
}

/// One call of the watched program, and the heap after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `malloc`, `calloc`, `realloc` or `free`.
    pub function: String,
    /// Its arguments; the second is 0 where there is none.
    pub arguments: [usize; 2],
    /// The payload's address; 0 for NULL or none.
    pub result: usize,
    /// Bytes of a header; 0 before the first block of the heap.
    pub header: usize,
    /// The program break.
    pub end: usize,
    /// If the result is a mapping, its bytes of payload; else 0.
    pub mapped: usize,
    /// The heap's blocks, by address.
    pub blocks: Vec<Block>,
}

impl Record {
    /// Reads a line back; None if it is not a record.
    pub fn parse(line: &str) -> Option<Self> {
        let (call, blocks) = line.split_once('|')?;
        let mut words = call.split(' ');
        let function = words.next()?.to_string();
        let mut number = || words.next()?.parse().ok();
        Some(Self {
            function,
            arguments: [number()?, number()?],
            result: number()?,
            header: number()?,
            end: number()?,
            mapped: number()?,
            blocks: blocks.split_whitespace().map(parse_block).collect::<Option<_>>()?,
        })
    }
}

fn parse_block(text: &str) -> Option<Block> {
    let mut fields = text.split(':');
    let block = Block {
        address: fields.next()?.parse().ok()?,
        size: fields.next()?.parse().ok()?,
        status: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let record = Record::parse("malloc 100 0 4120 24 135168 0|4096:104:1 4224:130920:0").expect("a record");
        assert_eq!((record.function.as_str(), record.arguments), ("malloc", [100, 0]));
        assert_eq!((record.result, record.header, record.end, record.mapped), (4120, 24, 135_168, 0));
        assert_eq!(record.blocks[1], Block { address: 4224, size: 130_920, status: 0 });
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        for line in ["", "hello", "malloc 1 2|", "malloc 1 0 0 0 0 0|1:2", "malloc 1 0 0 0 0 0|1:2:3:4"] {
            assert_eq!(Record::parse(line), None, "{line}");
        }
    }
}
