//! Producers build orders, send each to one of the consumers through a bounded queue, and consumers read and free them.

use super::{Outcome, Work, digest};
use crate::rng::Rng;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

const QUEUE: usize = 256;

struct Order {
    number: u64,
    customer: String,
    items: Vec<Item>,
    note: Option<Box<str>>,
}

struct Item {
    name: String,
    count: u64,
}

impl Order {
    fn new(rng: &mut Rng, number: u64) -> Self {
        let items = (0..1 + rng.below(5))
            .map(|place| Item { name: format!("item {} of {place}", rng.below(5000)), count: rng.below(9) as u64 })
            .collect();
        let note = (rng.below(4) == 0).then(|| "please ring twice ".repeat(1 + rng.below(20)).into());
        Self { number, customer: format!("customer {}", rng.below(100_000)), items, note }
    }

    fn read(&self) -> u64 {
        let items =
            self.items.iter().fold(0_u64, |sum, item| sum.wrapping_add(digest(&item.name).wrapping_mul(item.count)));
        items.wrapping_add(digest(&(&self.customer, &self.note, self.number)))
    }
}

fn produce(seed: u64, orders: u64, queues: &[SyncSender<Order>]) {
    let mut rng = Rng::new(seed);
    for number in 0..orders {
        let order = Order::new(&mut rng, number);
        queues[(seed + number) as usize % queues.len()].send(order).expect("the consumer is there");
    }
}

fn consume(queue: &Receiver<Order>) -> u64 {
    queue.iter().fold(0, |sum, order| sum.wrapping_add(order.read()))
}

pub fn run(work: Work) -> Outcome {
    let orders = work.amount(250_000);
    let checksum = if work.threads == 1 { alone(orders) } else { together(work, orders) };
    Outcome { operations: orders, checksum }
}

/// One thread sends to itself, a queue at a time.
fn alone(orders: u64) -> u64 {
    let (sender, receiver) = sync_channel(QUEUE);
    let mut rng = Rng::new(0);
    let (mut checksum, mut sent) = (1_u64, 0);
    while sent < orders {
        let end = orders.min(sent + QUEUE as u64);
        for number in sent..end {
            sender.send(Order::new(&mut rng, number)).expect("the receiver is here");
        }
        sent = end;
        checksum = receiver.try_iter().fold(checksum, |sum, order| sum.wrapping_add(order.read()));
    }
    checksum
}

fn together(work: Work, orders: u64) -> u64 {
    let producers = Work { threads: work.threads / 2, ..work };
    let (senders, receivers): (Vec<_>, Vec<_>) = (producers.threads..work.threads).map(|_| sync_channel(QUEUE)).unzip();
    let consumers: Vec<_> =
        receivers.into_iter().map(|queue: Receiver<Order>| thread::spawn(move || consume(&queue))).collect();
    for index in 0..producers.threads {
        let (queues, share) = (senders.clone(), producers.share(orders, index));
        thread::spawn(move || produce(index as u64, share, &queues));
    }
    drop(senders);
    consumers.into_iter().fold(1, |sum, consumer| sum.wrapping_add(consumer.join().expect("a consumer ends well")))
}
