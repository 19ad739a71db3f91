//! A server: each thread replaces random sessions in a table, ends, and another thread goes on with the table. So what a
//! thread frees was nearly always allocated by one that is no more, or works elsewhere.

use super::{Outcome, Work, digest, length, open, stamped};
use crate::rng::Rng;
use std::thread;

const SESSIONS: usize = 1000;
const GENERATIONS: u64 = 6;

struct Session {
    user: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Session {
    fn new(rng: &mut Rng) -> Self {
        let number = rng.below(1 << 20);
        let (request, answer) = (length(rng, 512), length(rng, 2048));
        Self {
            user: format!("user-{number}"),
            request: stamped(request, number as u8),
            answer: stamped(answer, (number >> 8) as u8),
        }
    }

    fn close(self) -> u64 {
        digest(&self.user).wrapping_add(open(&self.request)).wrapping_add(open(&self.answer))
    }
}

struct Table {
    sessions: Vec<Session>,
    rng: Rng,
    checksum: u64,
}

impl Table {
    fn serve(mut self, requests: u64) -> Self {
        for _ in 0..requests {
            let slot = self.rng.below(SESSIONS as u32);
            let fresh = Session::new(&mut self.rng);
            if slot < self.sessions.len() {
                let old = std::mem::replace(&mut self.sessions[slot], fresh);
                self.checksum = self.checksum.wrapping_add(old.close());
            } else {
                self.sessions.push(fresh);
            }
        }
        self
    }
}

pub fn run(work: Work) -> Outcome {
    let requests = work.amount(1_500_000);
    let mut tables: Vec<_> = (0..work.threads)
        .map(|index| Table { sessions: Vec::with_capacity(SESSIONS), rng: Rng::new(index as u64), checksum: 1 })
        .collect();
    for generation in 0..GENERATIONS {
        let part = |index| {
            work.share(requests, index) * (generation + 1) / GENERATIONS
                - work.share(requests, index) * generation / GENERATIONS
        };
        let heirs: Vec<_> = tables
            .drain(..)
            .enumerate()
            .map(|(index, table)| {
                let requests = part(index);
                thread::spawn(move || table.serve(requests))
            })
            .collect();
        tables.extend(heirs.into_iter().map(|heir| heir.join().expect("a server thread ends well")));
    }
    let checksum = tables.into_iter().fold(0_u64, |sum, table| {
        let rest = table.sessions.into_iter().fold(0_u64, |sum, session| sum.wrapping_add(session.close()));
        sum.wrapping_add(table.checksum).wrapping_add(rest)
    });
    Outcome { operations: requests, checksum }
}
