//! The load on `http_serve`: connections that write, read, delete and render documents, check every answer, and time each
//! request. What it did comes as a line of JSON.

use axum::http::{Method, StatusCode};
use clap::Parser;
use hdrhistogram::Histogram;
use http_server::client::Client;
use serde_json::{Value, json};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;
use terrace_bench::rng::Rng;

type Failure = Box<dyn Error + Send + Sync>;

const KEYS: u32 = 20_000;

/// A load of so many requests
#[derive(Parser)]
struct Options {
    /// Where the server listens
    server: SocketAddr,

    /// Connections at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 32)]
    connections: u64,

    /// Requests in all
    #[arg(long, value_name = "NUMBER", default_value_t = 30_000)]
    requests: u64,
}

/// A document that follows from its key alone, so that whoever reads it can check it.
fn document(key: usize) -> Value {
    let mut rng = Rng::new(key as u64);
    let words = 5 + rng.below(if key.is_multiple_of(50) { 4_000 } else { 200 });
    let text: Vec<String> = (0..words).map(|_| format!("word{}", rng.below(1000))).collect();
    let tags: Vec<String> = (0..rng.below(10)).map(|tag| format!("tag {tag}")).collect();
    json!({ "key": key, "price": rng.below(1_000_000), "tags": tags, "description": text.join(" ") })
}

/// One request of a random kind: six of ten read, three write, half of one deletes, half of one renders.
async fn request(client: &mut Client, rng: &mut Rng) -> Result<u64, Failure> {
    let bound = 1 + rng.below(KEYS) as u32;
    let key = rng.below(bound);
    let path = format!("/items/{key}");
    let (method, path, body) = match rng.below(20) {
        0..12 => (Method::GET, path, Vec::new()),
        12..18 => (Method::PUT, path, document(key).to_string().into_bytes()),
        18 => (Method::DELETE, path, Vec::new()),
        _ => {
            let rows: Vec<Value> = (0..rng.below(40)).map(|row| json!({ "name": format!("row {row}") })).collect();
            (Method::POST, "/render".into(), json!({ "title": "A page", "rows": rows }).to_string().into_bytes())
        }
    };
    let (reads, renders) = (method == Method::GET, method == Method::POST);
    let begin = Instant::now();
    let answer = client.send(method, &path, body).await?;
    let elapsed = begin.elapsed().as_nanos() as u64;
    match answer.status {
        StatusCode::OK if reads => {
            let found: Value = serde_json::from_slice(&answer.body)?;
            if found != document(key) {
                return Err(format!("{path} gave another document").into());
            }
        }
        StatusCode::OK if renders && !answer.body.starts_with(b"<") => return Err("the page is no page".into()),
        StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => {}
        other => return Err(format!("{path} gave the status {other}").into()),
    }
    Ok(elapsed)
}

async fn connection(server: SocketAddr, seed: u64, requests: u64) -> Result<Histogram<u64>, Failure> {
    let mut histogram = Histogram::new(3)?;
    let mut client = Client::connect(server).await?;
    let mut rng = Rng::new(seed);
    for _ in 0..requests {
        histogram.record(request(&mut client, &mut rng).await?)?;
    }
    Ok(histogram)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let begin = Instant::now();
    let running: Vec<_> = (0..options.connections)
        .map(|index| {
            let share =
                options.requests / options.connections + u64::from(index < options.requests % options.connections);
            tokio::spawn(connection(options.server, index, share))
        })
        .collect();
    let mut sum = Histogram::<u64>::new(3)?;
    for connection in running {
        sum.add(connection.await??)?;
    }
    let wall_ns = begin.elapsed().as_nanos() as u64;
    let pairs: Vec<_> = sum.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    println!(
        "{}",
        json!({ "wall_ns": wall_ns, "operations": sum.len(), "latency": { "clock_ns": 0, "request": pairs } })
    );
    Ok(())
}
