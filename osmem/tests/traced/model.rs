//! The rules of libosmem once more: numbers in a vector, and every rule spelled out where it applies.
//!
//! It shares nothing with the library, and does not care how long it takes.

use std::collections::HashMap;

use crate::library::Edition;
use crate::trace::{Call, Command, Piece, Slot, Step};

const K128: usize = 128 * 1024;

/// Where a block lies: its header, counted from the heap's first one, or in a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Heap(usize),
    Mapping { at: usize, size: usize },
}

/// What a command should have done.
#[derive(Debug)]
pub struct Expected {
    pub calls: Vec<Call>,
    pub result: Option<Place>,
}

pub struct Model {
    header: usize,
    page: usize,
    pub pieces: Vec<Piece>,
    /// The break, counted from the first header.
    pub end: usize,
    started: bool,
    slots: HashMap<Slot, Place>,
    calls: Vec<Call>,
    /// The address of the next mapping.
    mapping: usize,
}

fn up(size: usize) -> usize {
    size.div_ceil(8) * 8
}

impl Model {
    pub fn new(edition: Edition) -> Self {
        // SAFETY: it only asks.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        Self {
            header: edition.header,
            page,
            pieces: Vec::new(),
            end: 0,
            started: false,
            slots: HashMap::new(),
            calls: Vec::new(),
            mapping: 0,
        }
    }

    pub fn place(&self, slot: Slot) -> Option<Place> {
        self.slots.get(&slot).copied()
    }

    /// Does what the command says. If it maps, the mapping lies at `mapping`.
    pub fn step(&mut self, command: &Command, mapping: usize) -> Expected {
        self.mapping = mapping;
        let (to, result) = match *command {
            Command::Malloc { to, size } => (to, self.malloc(size)),
            Command::Calloc { to, count, size } => {
                let product = count.checked_mul(size).unwrap_or(0);
                (to, self.allocate(product, self.page))
            }
            Command::Realloc { to, from, size } => (to, self.realloc(self.place(from), size)),
            Command::Free { slot } => {
                self.free(self.place(slot));
                (slot, None)
            }
            Command::Sbrk { bytes } => {
                self.end += bytes;
                (0, None)
            }
        };
        if let Some(place) = result {
            self.slots.insert(to, place);
        }
        Expected { calls: std::mem::take(&mut self.calls), result }
    }

    fn malloc(&mut self, size: usize) -> Option<Place> {
        self.allocate(size, K128)
    }

    fn allocate(&mut self, size: usize, limit: usize) -> Option<Place> {
        if size == 0 || size > usize::MAX - 7 - self.header {
            return None;
        }
        let n = up(size);
        if n + self.header >= limit {
            self.calls.push(Call::Map(n + self.header));
            return Some(Place::Mapping { at: self.mapping, size: n });
        }
        if !self.started {
            self.started = true;
            self.end = K128;
            self.calls.extend([Call::AskBreak, Call::Break(K128)]);
            self.pieces.push(Piece { at: 0, size: K128 - self.header, free: true });
        }
        self.merge_all();

        let mut fitting: Vec<usize> = (0..self.pieces.len()).collect();
        fitting.retain(|&i| self.pieces[i].free && self.pieces[i].size >= n);
        fitting.sort_by_key(|&i| (self.pieces[i].size, self.pieces[i].at));
        let chosen = match fitting.first() {
            Some(&i) => i,
            None => self.grow(n),
        };
        self.pieces[chosen].free = false;
        self.split(chosen, n);
        Some(Place::Heap(self.pieces[chosen].at))
    }

    fn merge_all(&mut self) {
        while let Some(i) = (1..self.pieces.len()).find(|&i| self.pieces[i - 1].free && self.follows_free(i - 1)) {
            self.absorb(i - 1);
        }
    }

    /// Whether the next piece is free and touches this one.
    fn follows_free(&self, i: usize) -> bool {
        match self.pieces.get(i + 1) {
            Some(next) => next.free && next.at == self.piece_end(i),
            None => false,
        }
    }

    fn absorb(&mut self, i: usize) {
        let next = self.pieces.remove(i + 1);
        self.pieces[i].size += self.header + next.size;
    }

    fn piece_end(&self, i: usize) -> usize {
        self.pieces[i].at + self.header + self.pieces[i].size
    }

    fn grow(&mut self, n: usize) -> usize {
        let last = self.pieces.len() - 1;
        if self.pieces[last].free && self.piece_end(last) == self.end {
            self.extend(last, n);
            return last;
        }
        let at = up(self.end);
        self.end = at + self.header + n;
        self.calls.push(Call::Break(self.end));
        self.pieces.push(Piece { at, size: n, free: true });
        last + 1
    }

    fn extend(&mut self, last: usize, n: usize) {
        self.end += n - self.pieces[last].size;
        self.pieces[last].size = n;
        self.calls.push(Call::Break(self.end));
    }

    fn split(&mut self, i: usize, n: usize) {
        let piece = self.pieces[i];
        if piece.size - n >= self.header + 8 {
            let rest = Piece { at: piece.at + self.header + n, size: piece.size - n - self.header, free: true };
            self.pieces[i].size = n;
            self.pieces.insert(i + 1, rest);
        }
    }

    fn realloc(&mut self, old: Option<Place>, size: usize) -> Option<Place> {
        let Some(place) = old else {
            return self.malloc(size);
        };
        if size == 0 {
            self.free(old);
            return None;
        }
        if size > usize::MAX - 7 - self.header {
            return None;
        }
        let n = up(size);
        let Place::Heap(at) = place else {
            return self.move_away(place, size);
        };
        let i = self.index(at);
        if self.pieces[i].free {
            return None;
        }
        if n + self.header >= K128 {
            return self.move_away(place, size);
        }
        if n <= self.pieces[i].size {
            self.split(i, n);
            return old;
        }
        let was_last = i == self.pieces.len() - 1;
        if was_last && self.piece_end(i) == self.end {
            self.extend(i, n);
            return old;
        }
        while self.pieces[i].size < n && self.follows_free(i) {
            self.absorb(i);
        }
        if self.pieces[i].size >= n {
            self.split(i, n);
            return old;
        }
        self.move_away(place, size)
    }

    fn move_away(&mut self, old: Place, size: usize) -> Option<Place> {
        let new = self.malloc(size);
        self.free(Some(old));
        new
    }

    fn free(&mut self, place: Option<Place>) {
        match place {
            None => {}
            Some(Place::Heap(at)) => {
                let i = self.index(at);
                self.pieces[i].free = true;
            }
            Some(Place::Mapping { at, size }) => self.calls.push(Call::Unmap { at, bytes: size + self.header }),
        }
    }

    fn index(&self, at: usize) -> usize {
        self.pieces.iter().position(|piece| piece.at == at).expect("a block of the heap")
    }

    /// Compares what a command did with what it should have done.
    pub fn check(&mut self, command: &Command, step: &Step) -> Result<(), String> {
        let before = self.pieces.clone();
        let expected = self.step(command, step.mapped_at);
        let differs = |what: &str, is: &dyn std::fmt::Debug, should: &dyn std::fmt::Debug| {
            Err(format!("{what}\n   is     {is:?}\n   should {should:?}"))
        };
        // What the program's own sbrk asks is not the library's doing.
        if !matches!(command, Command::Sbrk { .. }) && step.calls != expected.calls {
            return differs("system calls", &step.calls, &expected.calls);
        }
        if step.blocks != self.pieces {
            return differs("the heap", &step.blocks, &self.pieces);
        }
        let (pointer, size, status) = match expected.result {
            None => (0, 0, 0),
            Some(Place::Heap(at)) => (step.heap + at + self.header, self.pieces[self.index(at)].size, 1),
            Some(Place::Mapping { at, size }) => (at + self.header, size, 2),
        };
        if (step.pointer, step.size, step.status) != (pointer, size, status) {
            return differs("the result", &(step.pointer, step.size, step.status), &(pointer, size, status));
        }
        if step.verdict != "ok" {
            return Err(format!("the content: {}", step.verdict));
        }
        for range in &step.written {
            self.check_written(command, &expected, &before, range.clone())?;
        }
        Ok(())
    }

    /// The library writes headers, what calloc zeroes and what realloc moves. A freed payload it never writes.
    fn check_written(
        &self,
        command: &Command,
        expected: &Expected,
        before: &[Piece],
        range: std::ops::Range<usize>,
    ) -> Result<(), String> {
        let headers = before.iter().chain(&self.pieces).map(|piece| piece.at..piece.at + self.header);
        let mut allowed: Vec<_> = headers.collect();
        if let (Command::Calloc { .. } | Command::Realloc { .. }, Some(Place::Heap(at))) = (command, expected.result) {
            let stayed = before.iter().any(|piece| piece.at == at && !piece.free);
            if !stayed {
                let payload = at + self.header;
                allowed.push(payload..payload + self.pieces[self.index(at)].size);
            }
        }
        let mut byte = range.start;
        while byte < range.end {
            match allowed.iter().find(|range| range.contains(&byte)) {
                Some(range) => byte = range.end,
                None => return Err(format!("byte {byte} of the heap was written, in {range:?}")),
            }
        }
        Ok(())
    }
}
