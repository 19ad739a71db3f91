//! The report at exit of what was not freed: blocks by size and, where stacks are kept, by the stack that allocated them.

use super::books::{BOOKS, State};
use crate::report::Bytes;
use crate::stacks::Stack;
use crate::{os, report};
use core::ptr;

/// Kinds of blocks that are told apart; what comes later is counted in one sum.
const KINDS: usize = 1024;
/// Kinds that are told one by one, those with the most bytes.
const TOLD: usize = 32;

#[derive(Clone, Copy)]
struct Kind {
    size: usize,
    stack: Option<&'static Stack>,
    count: usize,
}

impl Kind {
    fn bytes(&self) -> usize {
        self.size * self.count
    }

    fn is(&self, size: usize, stack: Option<&'static Stack>) -> bool {
        let same = match (self.stack, stack) {
            (Some(a), Some(b)) => ptr::eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.size == size && same
    }
}

/// Says which blocks are live.
pub(super) fn tell() {
    let len = (KINDS * size_of::<Kind>()).next_multiple_of(os::page_size());
    let Some(memory) = os::map(len) else {
        return report::say(format_args!("there is no memory for the report of leaks"));
    };
    // SAFETY: the memory has room for so many and is aligned; a kind of zeroes has no stack, size or count.
    let kinds = unsafe { core::slice::from_raw_parts_mut(memory.cast::<Kind>().as_ptr(), KINDS) };
    let (mut found, mut all, mut others) = (0, (0, 0), (0, 0));
    for known in BOOKS.lock().all().filter(|known| known.state == State::Live) {
        let (size, stack) = (known.size, known.allocated.stack);
        all = (all.0 + 1, all.1 + size);
        if let Some(kind) = kinds[..found].iter_mut().find(|kind| kind.is(size, stack)) {
            kind.count += 1;
        } else if found < KINDS {
            kinds[found] = Kind { size, stack, count: 1 };
            found += 1;
        } else {
            others = (others.0 + 1, others.1 + size);
        }
    }
    let kinds = &mut kinds[..found];
    kinds.sort_unstable_by_key(|kind| (core::cmp::Reverse(kind.bytes()), kind.size));
    if all.0 > 0 {
        report::say(format_args!("at exit blocks that were not freed: {}, with {}", all.0, Bytes(all.1)));
    }
    for kind in kinds.iter().take(TOLD) {
        let blocks = if kind.count == 1 { "block" } else { "blocks" };
        report::say(format_args!("  {} {blocks} of {}", kind.count, Bytes(kind.size)));
        if let Some(stack) = kind.stack {
            stack.tell();
        }
    }
    for kind in kinds.iter().skip(TOLD) {
        others = (others.0 + kind.count, others.1 + kind.bytes());
    }
    if others.0 > 0 {
        report::say(format_args!("  others: {}, with {}", others.0, Bytes(others.1)));
    }
    os::unmap(memory, len);
}
