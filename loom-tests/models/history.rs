//! Rings of events (`src/history/ring.rs`), written by one thread and read by another: an event is read whole or not at all, and
//! each that a ring says it holds is there until it is overwritten.

use super::{Control, Model, join, spawn};
use crate::history::{Ring, Rings};
use crate::sync::model::keep;

const FILE: &str = "src/history/ring.rs";

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "an_event_that_is_overwritten_while_it_is_read_is_read_whole_or_not_at_all",
        protocol: "history",
        threads: 2,
        bound: None,
        control: Control::Relaxed(FILE, "place.store(word", 0),
        body: overwritten,
    },
    || Model {
        name: "each_event_that_a_ring_says_it_holds_is_there",
        protocol: "history",
        threads: 2,
        bound: None,
        control: Control::Relaxed(FILE, "self.written.store(", 0),
        body: held,
    },
    || Model {
        name: "rings_made_at_once_are_all_found_by_who_goes_through_them",
        protocol: "history",
        threads: 3,
        bound: Some(2),
        control: Control::Relaxed(FILE, "self.newest.compare_exchange_weak(", 0),
        body: made,
    },
];

fn event(number: u64) -> [u64; 2] {
    [number + 10, number + 20]
}

fn overwritten() {
    let ring = keep(Rings::new()).make(1).unwrap();
    let writer = spawn(move || (0..2).for_each(|number| ring.write(&event(number))));
    for number in 0..2 {
        let mut words = [0; 2];
        if ring.read(number, &mut words) {
            assert_eq!(words, event(number), "an event was put together from two");
        }
    }
    join([writer]);
    let mut words = [0; 2];
    assert!(!ring.read(0, &mut words) && ring.read(1, &mut words));
}

fn held() {
    let ring = keep(Rings::new()).make(2).unwrap();
    let writer = spawn(move || (0..2).for_each(|number| ring.write(&event(number))));
    for number in ring.numbers() {
        let mut words = [0; 2];
        assert!(ring.read(number, &mut words), "an event is not there");
        assert_eq!(words, event(number));
    }
    join([writer]);
    assert_eq!(ring.numbers(), 0..2);
}

fn made() {
    let rings = keep(Rings::new());
    let makers = [1, 2].map(|capacity| spawn(move || assert!(rings.make(capacity).is_some())));
    let mut seen = 0;
    for ring in rings.iter() {
        assert!([1, 2].contains(&ring.capacity()), "a ring was found before it was made");
        seen += ring.capacity();
    }
    assert!(seen <= 3);
    join(makers);
    assert_eq!(rings.iter().map(Ring::capacity).sum::<u64>(), 3, "a ring was lost");
}
