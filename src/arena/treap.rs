//! A search tree whose nodes lie in memory that the caller provides: the order behind best fit and behind "fullest slab
//! first, lowest address among equals".
//!
//! A treap: ordered by key from left to right, and by priority from the root down. The priority is a hash of the node's
//! address, so the shape is that of a random tree whatever the order of insertion, with nothing to store and nothing to
//! rebalance by hand. Expected depth about 1.4 log2(n). Guarded by whatever lock guards the nodes.

use crate::sync::Cell;
use core::ptr;

/// A node's place in its tree; `None` in both while it is in none.
pub(crate) struct Links<T: 'static> {
    left: Cell<Option<&'static T>>,
    right: Cell<Option<&'static T>>,
}

#[cfg(test)]
impl<T> Links<T> {
    pub(crate) const fn new() -> Self {
        Self { left: Cell::new(None), right: Cell::new(None) }
    }
}

/// What can stand in a [`Treap`]. A node's key must not change while it is in one.
pub(crate) trait Node: 'static + Sized {
    fn links(&self) -> &Links<Self>;
    /// Strict and total: two nodes are never equal.
    fn precedes(&self, other: &Self) -> bool;
}

pub(crate) struct Treap<T: 'static> {
    root: Cell<Option<&'static T>>,
}

fn priority<T>(node: &T) -> u64 {
    // Each step can be undone, so no two nodes share a priority. One multiplication alone leaves the order of nodes that
    // lie at regular distances, which gave trees three times as deep.
    let mut mixed = ptr::from_ref(node).addr() as u64;
    for _ in 0..2 {
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    mixed ^ (mixed >> 29)
}

impl<T: Node> Treap<T> {
    pub(crate) const fn new() -> Self {
        Self { root: Cell::new(None) }
    }

    pub(crate) fn insert(&self, node: &'static T) {
        let mut place = &self.root;
        while let Some(at) = place.get()
            && priority(at) > priority(node)
        {
            place = if node.precedes(at) { &at.links().left } else { &at.links().right };
        }
        // What stood here is split around the new node: all before it to its left, all after it to its right.
        let mut rest = place.replace(Some(node));
        let (mut before, mut after) = (&node.links().left, &node.links().right);
        while let Some(at) = rest {
            if at.precedes(node) {
                before.set(Some(at));
                before = &at.links().right;
                rest = before.get();
            } else {
                after.set(Some(at));
                after = &at.links().left;
                rest = after.get();
            }
        }
        before.set(None);
        after.set(None);
    }

    /// Takes out a node that is in this tree.
    pub(crate) fn remove(&self, node: &'static T) {
        let mut place = &self.root;
        while let Some(at) = place.get()
            && !ptr::eq(at, node)
        {
            place = if node.precedes(at) { &at.links().left } else { &at.links().right };
        }
        debug_assert!(place.get().is_some(), "the node is in another tree");
        let (mut left, mut right) = (node.links().left.take(), node.links().right.take());
        loop {
            match (left, right) {
                (Some(l), Some(r)) if priority(l) > priority(r) => {
                    place.set(left);
                    place = &l.links().right;
                    left = place.get();
                }
                (Some(_), Some(r)) => {
                    place.set(right);
                    place = &r.links().left;
                    right = place.get();
                }
                _ => return place.set(left.or(right)),
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.get().is_none()
    }

    pub(crate) fn first(&self) -> Option<&'static T> {
        let mut node = self.root.get()?;
        while let Some(left) = node.links().left.get() {
            node = left;
        }
        Some(node)
    }

    /// The first node, in order, for which `reached` holds; it must hold for every node after one for which it holds.
    pub(crate) fn first_where(&self, reached: impl Fn(&T) -> bool) -> Option<&'static T> {
        let (mut found, mut next) = (None, self.root.get());
        while let Some(node) = next {
            if reached(node) {
                found = next;
                next = node.links().left.get();
            } else {
                next = node.links().right.get();
            }
        }
        found
    }

    /// The node that follows `node` in order.
    pub(crate) fn after(&self, node: &T) -> Option<&'static T> {
        self.first_where(|other| node.precedes(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    struct Number(u32, Links<Number>);

    impl Node for Number {
        fn links(&self) -> &Links<Self> {
            &self.1
        }
        fn precedes(&self, other: &Self) -> bool {
            self.0 < other.0
        }
    }

    fn contents(tree: &Treap<Number>) -> Vec<u32> {
        let mut all = Vec::new();
        let mut next = tree.first();
        while let Some(node) = next {
            all.push(node.0);
            next = tree.after(node);
        }
        all
    }

    proptest! {
        #[test]
        fn it_holds_what_a_sorted_set_holds(steps in prop::collection::vec((any::<bool>(), 0_u32..64), 0..200)) {
            let nodes: Vec<&'static Number> =
                (0..64).map(|n| &*Box::leak(Box::new(Number(n, Links::new())))).collect();
            let (tree, mut model) = (Treap::new(), BTreeSet::new());
            for (insert, n) in steps {
                if insert && model.insert(n) {
                    tree.insert(nodes[n as usize]);
                } else if !insert && model.remove(&n) {
                    tree.remove(nodes[n as usize]);
                }
                prop_assert_eq!(contents(&tree), model.iter().copied().collect::<Vec<_>>());
                let found = tree.first_where(|node| node.0 >= n).map(|node| node.0);
                prop_assert_eq!(found, model.range(n..).next().copied());
            }
        }
    }
}
