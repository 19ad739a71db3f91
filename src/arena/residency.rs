//! Which pages of a segment are in memory, as the kernel tells.

use super::segment::{PAGE, PAGES, SEGMENT_SIZE, Segment};
use crate::os;

pub(super) struct Residency {
    /// A byte for each of the kernel's pages; `None` where the kernel does not tell.
    pages: Option<[u8; PAGES]>,
}

impl Residency {
    pub(super) fn of(segment: &Segment) -> Self {
        let mut pages = [0; PAGES];
        Self { pages: os::residency(segment.start(), SEGMENT_SIZE, &mut pages).then_some(pages) }
    }

    /// Bytes in memory of so many pages from a page on; all of them or none, as `otherwise` says, where that is not known.
    pub(super) fn bytes(&self, first: usize, pages: usize, otherwise: bool) -> usize {
        let unit = os::page_size() / PAGE;
        let count = match &self.pages {
            Some(known) => (first..first + pages).filter(|page| known[page / unit] & 1 != 0).count(),
            None if otherwise => pages,
            None => 0,
        };
        count * PAGE
    }
}
