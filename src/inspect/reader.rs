//! Reading numbers from foreign memory, a page at a time, and following chains that may not end.

use super::{Memory, Unreadable};

const PAGE: usize = 4096;

/// Reads through a window: a copy of the page that was read last.
pub(super) struct Reader<'m> {
    memory: &'m dyn Memory,
    /// The page's address; `usize::MAX` while there is none.
    page: usize,
    bytes: [u8; PAGE],
}

impl<'m> Reader<'m> {
    pub(super) fn new(memory: &'m dyn Memory) -> Self {
        Self { memory, page: usize::MAX, bytes: [0; PAGE] }
    }

    pub(super) fn memory(&self) -> &'m dyn Memory {
        self.memory
    }

    /// Forgets the copy, so that what is read next is fresh.
    pub(super) fn renew(&mut self) {
        self.page = usize::MAX;
    }

    fn bytes<const N: usize>(&mut self, address: usize) -> Result<[u8; N], Unreadable> {
        let (page, offset) = (address & !(PAGE - 1), address % PAGE);
        let mut value = [0; N];
        if offset + N > PAGE {
            self.memory.read(address, &mut value)?;
            return Ok(value);
        }
        if page != self.page {
            self.page = usize::MAX;
            self.memory.read(page, &mut self.bytes).map_err(|_| Unreadable { address })?;
            self.page = page;
        }
        value.copy_from_slice(&self.bytes[offset..offset + N]);
        Ok(value)
    }

    pub(super) fn u8(&mut self, base: usize, offset: u32) -> Result<u8, Unreadable> {
        self.bytes(base.wrapping_add(offset as usize)).map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&mut self, base: usize, offset: u32) -> Result<u16, Unreadable> {
        self.bytes(base.wrapping_add(offset as usize)).map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self, base: usize, offset: u32) -> Result<u32, Unreadable> {
        self.bytes(base.wrapping_add(offset as usize)).map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self, base: usize, offset: u32) -> Result<u64, Unreadable> {
        self.bytes(base.wrapping_add(offset as usize)).map(u64::from_ne_bytes)
    }

    pub(super) fn word(&mut self, base: usize, offset: u32) -> Result<usize, Unreadable> {
        self.u64(base, offset).map(|word| word as usize)
    }

    /// Calls `visit` for each link of a chain, which gives the next one; 0 ends it. A chain that comes back to itself, or has
    /// more than `most` links, is broken off with `false`.
    pub(super) fn follow(
        &mut self,
        first: usize,
        most: usize,
        mut visit: impl FnMut(&mut Self, usize) -> Result<usize, Unreadable>,
    ) -> Result<bool, Unreadable> {
        // Brent's way of finding a cycle: a link is remembered at each power of two.
        let (mut at, mut remembered, mut count, mut power) = (first, 0, 0, 1);
        while at != 0 {
            if at == remembered || count == most {
                return Ok(false);
            }
            if count == power {
                (remembered, power) = (at, power * 2);
            }
            count += 1;
            at = visit(self, at)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// Memory whose word at n is n + 8, back to `back` after `last`.
    struct Ring {
        last: usize,
        back: usize,
        reads: Cell<usize>,
    }

    impl Memory for Ring {
        fn read(&self, address: usize, into: &mut [u8]) -> Result<(), Unreadable> {
            self.reads.set(self.reads.get() + 1);
            if address >= 1 << 20 {
                return Err(Unreadable { address });
            }
            for (index, word) in into.chunks_mut(8).enumerate() {
                let at = address + index * 8;
                let next = if at == self.last { self.back } else { at + 8 };
                word.copy_from_slice(&next.to_ne_bytes()[..word.len()]);
            }
            Ok(())
        }
    }

    #[test]
    fn chains_end_wherever_they_lead() {
        let links = |last, back, most| {
            let ring = Ring { last, back, reads: Cell::new(0) };
            let mut links = 0;
            let whole = Reader::new(&ring).follow(64, most, |reader, at| {
                links += 1;
                reader.word(at, 0)
            });
            (whole, links)
        };
        assert_eq!(links(64 + 8 * 99, 0, 1000), (Ok(true), 100));
        assert_eq!(links(64 + 8 * 99, 0, 99), (Ok(false), 99));
        let (whole, count) = links(64 + 8 * 99, 64 + 8 * 30, usize::MAX);
        assert!(whole == Ok(false) && count < 300, "{count}");
        assert_eq!(links(64, 64, usize::MAX).0, Ok(false));
        assert!(links(usize::MAX, 0, usize::MAX).0.is_err());
    }

    #[test]
    fn a_page_is_read_once_and_a_value_across_two_as_well() {
        let ring = Ring { last: usize::MAX, back: 0, reads: Cell::new(0) };
        let mut reader = Reader::new(&ring);
        assert_eq!(reader.word(4096, 8), Ok(4096 + 16));
        assert_eq!(reader.word(4096, 4088), Ok(8192));
        assert_eq!(ring.reads.get(), 1);
        assert!(reader.word(4096, 4092).is_ok());
        assert_eq!(ring.reads.get(), 2);
        assert!(reader.word(usize::MAX, 0).is_err());
    }
}
