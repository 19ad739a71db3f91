//! Formulas as trees of boxes: derived again and again, simplified, evaluated, dropped. Tiny blocks, most of which live for
//! moments.

use super::{Outcome, Work};
use crate::rng::Rng;
use std::thread;

/// All arithmetic is modulo 2^64, so a formula's value is exact.
#[derive(Clone)]
enum Formula {
    Number(u64),
    Variable,
    Sum(Box<Self>, Box<Self>),
    Product(Box<Self>, Box<Self>),
    Square(Box<Self>),
}

use Formula::{Number, Product, Square, Sum, Variable};

fn sum(left: Formula, right: Formula) -> Formula {
    match (left, right) {
        (Number(0), other) | (other, Number(0)) => other,
        (Number(left), Number(right)) => Number(left.wrapping_add(right)),
        (left, right) => Sum(Box::new(left), Box::new(right)),
    }
}

fn product(left: Formula, right: Formula) -> Formula {
    match (left, right) {
        (Number(0), _) | (_, Number(0)) => Number(0),
        (Number(1), other) | (other, Number(1)) => other,
        (Number(left), Number(right)) => Number(left.wrapping_mul(right)),
        (left, right) => Product(Box::new(left), Box::new(right)),
    }
}

impl Formula {
    fn random(rng: &mut Rng, depth: u32) -> Self {
        match if depth == 0 { rng.below(2) } else { 2 + rng.below(4) } {
            0 => Number(rng.below(10) as u64),
            1 => Variable,
            2 | 3 => sum(Self::random(rng, depth - 1), Self::random(rng, depth - 1)),
            4 => product(Self::random(rng, depth - 1), Self::random(rng, depth - 1)),
            _ => Square(Box::new(Self::random(rng, depth - 1))),
        }
    }

    fn derivative(&self) -> Self {
        match self {
            Number(_) => Number(0),
            Variable => Number(1),
            Sum(left, right) => sum(left.derivative(), right.derivative()),
            Product(left, right) => {
                sum(product(left.derivative(), (**right).clone()), product((**left).clone(), right.derivative()))
            }
            Square(inner) => product(product(Number(2), (**inner).clone()), inner.derivative()),
        }
    }

    fn value(&self, at: u64) -> u64 {
        match self {
            Number(number) => *number,
            Variable => at,
            Sum(left, right) => left.value(at).wrapping_add(right.value(at)),
            Product(left, right) => left.value(at).wrapping_mul(right.value(at)),
            Square(inner) => inner.value(at).wrapping_pow(2),
        }
    }
}

fn derive(seed: u64, formulas: u64) -> u64 {
    let mut rng = Rng::new(seed);
    (0..formulas).fold(1_u64, |checksum, number| {
        let formula = Formula::random(&mut rng, 6);
        let first = formula.derivative();
        checksum.wrapping_add(first.value(number)).wrapping_add(first.derivative().value(number))
    })
}

pub fn run(work: Work) -> Outcome {
    let formulas = work.amount(25_000);
    let threads: Vec<_> = (0..work.threads)
        .map(|index| {
            let share = work.share(formulas, index);
            thread::spawn(move || derive(index as u64, share))
        })
        .collect();
    let checksum =
        threads.into_iter().fold(1_u64, |sum, thread| sum.wrapping_add(thread.join().expect("a thread ends well")));
    Outcome { operations: formulas, checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivative_of_a_square_is_right() {
        // (x² + 3x)² has the derivative 2 (x² + 3x) (2x + 3): at 5, 2 · 40 · 13.
        let inner = sum(Square(Box::new(Variable)), product(Number(3), Variable));
        assert_eq!(Square(Box::new(inner)).derivative().value(5), 1040);
    }
}
