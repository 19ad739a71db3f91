//! What is to be drawn: each call in words, and the boxes of the heap after it.

use std::collections::BTreeMap;

use crate::record::Record;

/// What a box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Used,
    Free,
    Mapped,
}

/// A block: what it is, what the pointer to it is called, and its payload's size.
#[derive(Clone, Debug)]
pub struct Box {
    pub kind: Kind,
    pub name: String,
    pub size: usize,
}

/// One call and the blocks after it.
#[derive(Debug)]
pub struct Scene {
    /// `p1 = malloc(100)`
    pub call: String,
    /// The same for osmem-strategies, if it is one for it.
    pub recorded: String,
    /// How far the break moved: bytes.
    pub grown: usize,
    pub boxes: Vec<Box>,
}

/// All calls so far.
#[derive(Default)]
pub struct Story {
    pub scenes: Vec<Scene>,
    /// Pointers in use: the number of each, and the size if it is a mapping.
    pointers: BTreeMap<usize, (usize, usize)>,
    named: usize,
    /// The heap's first header and its end; 0 before its first use.
    start: usize,
    end: usize,
}

impl Story {
    /// Adds a call.
    pub fn add(&mut self, record: &Record) -> &Scene {
        let [first, second] = record.arguments;
        let (call, recorded) = match record.function.as_str() {
            "malloc" => {
                let name = self.give_name(record, None);
                (format!("{name} = malloc({first})"), recorded("malloc", &name, &[first]))
            }
            "calloc" => {
                let name = self.give_name(record, None);
                (format!("{name} = calloc({first}, {second})"), recorded("calloc", &name, &[first, second]))
            }
            "realloc" => {
                let old = self.name(first);
                let kept = if record.result == 0 && second != 0 { None } else { self.pointers.remove(&first) };
                let name = self.give_name(record, kept.map(|(number, _)| number));
                let known_as = if old == "NULL" { &name } else { &old };
                (format!("{name} = realloc({old}, {second})"), recorded("realloc", known_as, &[second]))
            }
            _ => {
                let name = self.name(first);
                self.pointers.remove(&first);
                (format!("free({name})"), recorded("free", &name, &[]))
            }
        };
        if let (0, Some(first)) = (self.start, record.blocks.first()) {
            (self.start, self.end) = (first.address, first.address);
        }
        let grown = if self.start == 0 { 0 } else { record.end.saturating_sub(self.end) };
        self.end = record.end;
        self.scenes.push(Scene { call, recorded, grown, boxes: self.boxes(record) });
        self.scenes.last().expect("it was just added")
    }

    /// A line to end with.
    pub fn summary(&self) -> String {
        let heap = if self.start == 0 { 0 } else { self.end - self.start };
        let last = self.scenes.last().map_or(&[][..], |scene| &scene.boxes);
        let count = |kind| last.iter().filter(|block| block.kind == kind).count();
        format!(
            "{} calls; the heap has {heap} bytes; {} blocks in use, {} free, {} mapped",
            self.scenes.len(),
            count(Kind::Used),
            count(Kind::Free),
            count(Kind::Mapped)
        )
    }

    fn name(&self, pointer: usize) -> String {
        match (pointer, self.pointers.get(&pointer)) {
            (0, _) => "NULL".to_string(),
            (_, Some((number, _))) => format!("p{number}"),
            // Freed before, or never given by the library.
            (_, None) => format!("{pointer:#x}"),
        }
    }

    /// Names a call's result: as before, if it only moved.
    fn give_name(&mut self, record: &Record, number: Option<usize>) -> String {
        if record.result != 0 {
            let number = number.unwrap_or_else(|| {
                self.named += 1;
                self.named
            });
            self.pointers.insert(record.result, (number, record.mapped));
        }
        self.name(record.result)
    }

    fn boxes(&self, record: &Record) -> Vec<Box> {
        let heap = record.blocks.iter().map(|block| {
            let (kind, name) = match block.status {
                0 => (Kind::Free, String::new()),
                _ => (Kind::Used, self.name(block.address + record.header)),
            };
            Box { kind, name, size: block.size }
        });
        let mapped = self.pointers.iter().filter(|(_, (_, mapped))| *mapped > 0);
        let mapped = mapped.map(|(&pointer, &(_, size))| Box { kind: Kind::Mapped, name: self.name(pointer), size });
        heap.chain(mapped).collect()
    }
}

fn recorded(function: &str, name: &str, numbers: &[usize]) -> String {
    let numbers: String = numbers.iter().map(|number| format!(" {number}")).collect();
    format!("{function} {name}{numbers}")
}
