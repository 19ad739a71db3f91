//! Remote frees (`src/tcache/inbox.rs`, `src/block.rs`): chains pushed by several threads while another takes all. No block is
//! lost, none arrives twice, each chain arrives whole, what was written before a push is seen by the taker, and the chains of
//! one sender come out last in, first out: the order of a sequential stack.

use super::blocks::linked;
use super::{Control, Model, join, spawn};
use crate::block::{BlockPtr, Chain, blocks_from};
use crate::sync::model::keep;
use crate::tcache::Inbox;
use std::vec::Vec;

const FILE: &str = "src/tcache/inbox.rs";
const PUSH: Control = Control::Relaxed(FILE, "self.head.compare_exchange_weak", 0);
const TAKE: Control = Control::Relaxed(FILE, "self.head.swap(", 0);

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "a_chain_pushed_while_another_thread_takes_arrives_once_and_whole",
        protocol: "inboxes",
        threads: 2,
        bound: None,
        control: PUSH,
        body: || push_and_take::<1, 2>(2),
    },
    || Model {
        name: "chains_of_two_senders_arrive_once_and_whole",
        protocol: "inboxes",
        threads: 3,
        bound: None,
        control: TAKE,
        body: || push_and_take::<2, 1>(1),
    },
    || Model {
        name: "two_chains_of_each_of_two_senders_arrive_in_the_order_of_a_stack",
        protocol: "inboxes",
        threads: 3,
        bound: Some(3),
        control: Control::Bug("a push drops what was there"),
        body: || push_and_take::<2, 2>(2),
    },
    || Model {
        name: "chains_of_three_senders_arrive_once_and_whole",
        protocol: "inboxes",
        threads: 4,
        bound: Some(2),
        control: PUSH,
        body: || push_and_take::<3, 1>(1),
    },
    || Model {
        name: "two_takers_share_what_was_pushed_and_no_block_goes_to_both",
        protocol: "inboxes",
        threads: 3,
        bound: None,
        control: TAKE,
        body: two_takers,
    },
    || Model {
        name: "what_a_thread_in_need_leaves_in_an_inbox_is_all_there_for_its_owner",
        protocol: "inboxes",
        threads: 3,
        bound: Some(3),
        control: Control::Bug("a thread in need drops what it does not use"),
        body: in_need,
    },
];

/// Takes all that is there, and checks each chain against what its sender pushed.
fn take(inbox: &Inbox, pushed: &[Vec<Vec<BlockPtr>>]) -> Vec<(usize, usize)> {
    let mut chains = inbox.take_all();
    let mut taken = Vec::new();
    while let Some(chain) = chains.pop() {
        let of = |(sender, chains): (usize, &Vec<Vec<BlockPtr>>)| {
            chains.iter().position(|blocks| blocks[0] == chain.head).map(|number| (sender, number))
        };
        let (sender, number) = pushed.iter().enumerate().find_map(of).expect("a chain that nobody pushed");
        assert_eq!(usize::from(chain.count), pushed[sender][number].len());
        assert_eq!(chain.blocks().collect::<Vec<_>>(), pushed[sender][number], "a chain is not whole");
        assert!(taken.len() < pushed.iter().map(Vec::len).sum(), "a chain came twice");
        taken.push((sender, number));
    }
    // A stack: of one sender's chains the later one lies above.
    for (place, &(sender, number)) in taken.iter().enumerate() {
        assert!(taken[..place].iter().all(|&(other, earlier)| other != sender || earlier > number));
    }
    taken
}

/// Makes the chains in the first thread, but has the senders link them: the links are what they write before a push.
fn chains(senders: usize, each: usize, len: usize) -> &'static [Vec<Vec<BlockPtr>>] {
    keep((0..senders).map(|_| (0..each).map(|_| linked(len)).collect()).collect::<Vec<Vec<Vec<BlockPtr>>>>())
}

fn send(inbox: &Inbox, blocks: &[BlockPtr]) {
    for (place, block) in blocks.iter().enumerate() {
        block.set_next(blocks.get(place + 1).copied());
    }
    let waiting = inbox.push(Chain { head: blocks[0], count: blocks.len() as u16 });
    assert!(usize::from(waiting) >= blocks.len());
}

fn push_and_take<const SENDERS: usize, const EACH: usize>(len: usize) {
    let (inbox, pushed) = (keep(Inbox::new()), chains(SENDERS, EACH, len));
    let senders: [_; SENDERS] =
        core::array::from_fn(|sender| spawn(move || pushed[sender].iter().for_each(|blocks| send(inbox, blocks))));
    let mut taken = take(inbox, pushed);
    join(senders);
    let rest = take(inbox, pushed);
    for &(sender, number) in &taken {
        assert!(rest.iter().all(|&(other, later)| other != sender || later > number), "a later chain came first");
    }
    taken.extend(rest);
    taken.sort_unstable();
    let all: Vec<_> = (0..SENDERS).flat_map(|sender| (0..EACH).map(move |number| (sender, number))).collect();
    assert_eq!(taken, all, "a chain was lost or came twice");
    assert!(inbox.is_empty());
}

fn two_takers() {
    let (inbox, pushed) = (keep(Inbox::new()), chains(1, 2, 1));
    let sender = spawn(move || pushed[0].iter().for_each(|blocks| send(inbox, blocks)));
    let (tell, told) = std::sync::mpsc::channel();
    let taker = spawn(move || tell.send(take(inbox, pushed)).unwrap());
    let mut taken = take(inbox, pushed);
    sender.join().unwrap();
    taker.join().unwrap();
    taken.extend(told.recv().unwrap());
    taken.extend(take(inbox, pushed));
    taken.sort_unstable();
    assert_eq!(taken, [(0, 0), (0, 1)]);
}

fn in_need() {
    let (inbox, pushed) = (keep(Inbox::new()), chains(1, 3, 1));
    let number = |block: BlockPtr| pushed[0].iter().position(|blocks| blocks[0] == block).expect("it was pushed");
    let sender = spawn(move || pushed[0].iter().for_each(|blocks| send(inbox, blocks)));
    let (tell, told) = std::sync::mpsc::channel();
    let needy = spawn(move || {
        let list = inbox.take_some(1).unwrap_or_default();
        tell.send(blocks_from(list.head).map(number).collect::<Vec<_>>()).unwrap();
    });
    // What the thread in need puts back may come to lie above what was pushed meanwhile.
    let take = || {
        let mut chains = inbox.take_all();
        core::iter::from_fn(|| chains.pop()).flat_map(Chain::blocks).map(number).collect::<Vec<_>>()
    };
    let mut taken = take();
    sender.join().unwrap();
    needy.join().unwrap();
    taken.extend(told.recv().unwrap());
    assert_eq!(inbox.waiting(), 3 - taken.len());
    taken.extend(take());
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2]);
}
