//! The load: clients that read, write, delete and render, and check every answer against what it must be.
//!
//! A document is made from its key and a seed, and carries both. So whoever reads it can make it again and compare,
//! without knowing who wrote it last: a block that was damaged or handed out twice shows as a wrong answer.

use crate::client::{Answer, Client};
use crate::random::Random;
use crate::render::{Page, html};
use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

/// Keys in use. Their documents are some 2,300 bytes in the mean, so together they are more than the cache should hold.
const KEYS: u64 = 50_000;

type Failure = Box<dyn Error + Send + Sync>;

/// What the clients did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests that were answered as they must be.
    pub requests: u64,
    /// Reads that found a document.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// What went wrong, one sentence for each client that gave up.
    pub errors: Vec<String>,
}

/// Runs so many clients, each on a connection of its own, until `stop` is ready.
pub async fn run(server: SocketAddr, clients: usize, stop: impl Future<Output = ()>) -> Outcome {
    let stopping = Arc::new(AtomicBool::new(false));
    let mut running = JoinSet::new();
    for number in 0..clients {
        running.spawn(client(server, Random(number as u64), Arc::clone(&stopping)));
    }
    stop.await;
    stopping.store(true, Ordering::Relaxed);
    let mut sum = Outcome::default();
    for outcome in running.join_all().await {
        sum.requests += outcome.requests;
        sum.hits += outcome.hits;
        sum.misses += outcome.misses;
        sum.errors.extend(outcome.errors);
    }
    sum
}

/// One client, until it is told to stop or gets a wrong answer.
async fn client(server: SocketAddr, mut random: Random, stopping: Arc<AtomicBool>) -> Outcome {
    let mut outcome = Outcome::default();
    let result = async {
        let mut client = Client::connect(server).await?;
        while !stopping.load(Ordering::Relaxed) {
            step(&mut client, &mut random, &mut outcome).await?;
            outcome.requests += 1;
        }
        Ok::<_, Failure>(())
    };
    if let Err(error) = result.await {
        outcome.errors.push(error.to_string());
    }
    outcome
}

/// One request: of ten thousand 5,200 reads, 3,500 writes, 400 deletions, 890 pages, 9 looks at the statistics, 1 purge.
async fn step(client: &mut Client, random: &mut Random, outcome: &mut Outcome) -> Result<(), Failure> {
    // Some keys are asked for far more often than others: the first hundredth gets a sixth of the requests.
    let mut key = KEYS;
    for _ in 0..3 {
        key = random.below(key + 1);
    }
    let path = format!("/items/{key}");
    match random.below(10_000) {
        0..5200 => {
            let answer = client.send(Method::GET, &path, "").await?;
            if answer.status == StatusCode::NOT_FOUND {
                outcome.misses += 1;
                return Ok(());
            }
            outcome.hits += 1;
            let found: Value = serde_json::from_slice(&expect(answer, &[StatusCode::OK])?.body)?;
            let seed = found["seed"].as_u64().ok_or("a document without a seed")?;
            same(&found, &document(key, seed))
        }
        5200..8700 => {
            let body = document(key, random.next()).to_string();
            let length = body.len();
            let answer = client.send(Method::PUT, &path, body).await?;
            let answer: Value = serde_json::from_slice(&expect(answer, &[StatusCode::OK, StatusCode::CREATED])?.body)?;
            same(&answer, &json!({ "key": key.to_string(), "bytes": length }))
        }
        8700..9100 => {
            let answer = client.send(Method::DELETE, &path, "").await?;
            expect(answer, &[StatusCode::NO_CONTENT, StatusCode::NOT_FOUND]).map(drop)
        }
        9100..9990 => {
            let page = page(random);
            let answer = client.send(Method::POST, "/render", serde_json::to_vec(&page)?).await?;
            same(&*expect(answer, &[StatusCode::OK])?.body, html(&page).as_bytes())
        }
        9990..9999 => {
            let answer = client.send(Method::GET, "/stats", "").await?;
            expect(answer, &[StatusCode::OK]).map(drop)
        }
        _ => {
            let answer = client.send(Method::POST, "/purge", "").await?;
            expect(answer, &[StatusCode::NO_CONTENT]).map(drop)
        }
    }
}

fn expect(answer: Answer, statuses: &[StatusCode]) -> Result<Answer, Failure> {
    if statuses.contains(&answer.status) {
        return Ok(answer);
    }
    Err(format!("status {} instead of {statuses:?}: {}", answer.status, String::from_utf8_lossy(&answer.body)).into())
}

fn same<T: PartialEq + ?Sized>(answer: &T, expected: &T) -> Result<(), Failure> {
    if answer == expected { Ok(()) } else { Err("an answer differs from what it must be".into()) }
}

/// A product, say: some short fields, a list, and a text that is long in one of fifty.
fn document(key: u64, seed: u64) -> Value {
    let mut random = Random(seed ^ key);
    let words = match random.below(100) {
        0 | 1 => 2_000 + random.below(8_000),
        _ => 5 + random.below(400),
    };
    json!({
        "key": key,
        "seed": seed,
        "name": text(&mut random, 3),
        "price": random.below(1_000_000),
        "tags": (0..random.below(12)).map(|_| text(&mut random, 1)).collect::<Vec<_>>(),
        "stock": { "shelf": random.below(100), "count": random.below(1000), "ordered": random.below(2) == 1 },
        "description": text(&mut random, words),
    })
}

fn page(random: &mut Random) -> Page {
    let row = |random: &mut Random| {
        let names = ["name", "maker", "price", "note"];
        names.map(|name| (name.to_owned(), Value::from(text(random, 4)))).into_iter().collect::<Map<_, _>>()
    };
    Page { title: text(random, 5), rows: (0..random.below(60)).map(|_| row(random)).collect() }
}

fn text(random: &mut Random, words: u64) -> String {
    const WORDS: [&str; 16] = [
        "terrace",
        "field",
        "water",
        "<stone>",
        "wall",
        "rice",
        "slope",
        "channel",
        "gate",
        "pool",
        "\"step\"",
        "earth",
        "spring",
        "valley",
        "tea & vine",
        "mist",
    ];
    let mut text = String::new();
    for word in 0..words {
        if word > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[(random.next() % 16) as usize]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_same_whenever_it_is_made() {
        assert_eq!(document(3, 4), document(3, 4));
        assert_ne!(document(3, 4)["description"], document(3, 5)["description"]);
    }
}
