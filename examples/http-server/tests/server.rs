//! The program as a whole: started, asked over HTTP, and stopped.

use http_server::cache::Usage;
use http_server::client::Client;
use hyper::{Method, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running server, which does not outlive the test.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_http-server"))
            .args(["--threads", "2"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect(&line).parse().unwrap();
        Self { child, output, address }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < limit, "the server did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request, checks the status, and gives back the body.
async fn ask(client: &mut Client, method: Method, path: &str, body: impl ToString, status: StatusCode) -> String {
    let answer = client.send(method.clone(), path, body.to_string()).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, status, "{method} {path}: {text}");
    text
}

async fn usage(client: &mut Client) -> Usage {
    serde_json::from_str(&ask(client, Method::GET, "/health", "", StatusCode::OK).await).unwrap()
}

#[tokio::test]
async fn an_item_is_stored_replaced_and_deleted() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let first = json!({ "name": "rice", "steps": [1, 2.5, null, { "deep": "\u{1f33e}" }] });
    let second = json!(["another", "document"]);

    ask(&mut client, Method::GET, "/items/a", "", StatusCode::NOT_FOUND).await;
    let answer = ask(&mut client, Method::PUT, "/items/a", &first, StatusCode::CREATED).await;
    assert_eq!(answer.parse::<Value>().unwrap(), json!({ "key": "a", "bytes": first.to_string().len() }));
    let answer = ask(&mut client, Method::GET, "/items/a", "", StatusCode::OK).await;
    assert_eq!(answer.parse::<Value>().unwrap(), first);
    ask(&mut client, Method::PUT, "/items/a", &second, StatusCode::OK).await;
    let answer = ask(&mut client, Method::GET, "/items/a", "", StatusCode::OK).await;
    assert_eq!(answer.parse::<Value>().unwrap(), second);
    ask(&mut client, Method::DELETE, "/items/a", "", StatusCode::NO_CONTENT).await;
    ask(&mut client, Method::DELETE, "/items/a", "", StatusCode::NOT_FOUND).await;
    ask(&mut client, Method::GET, "/items/a", "", StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_a_reason() {
    let server = Server::start(&["--cache-bytes", "160000"]);
    let mut client = server.client().await;
    let answer = ask(&mut client, Method::PUT, "/items/a", "{", StatusCode::BAD_REQUEST).await;
    assert!(answer.contains("EOF"), "{answer}");
    let large = json!("x".repeat(10_000));
    let answer = ask(&mut client, Method::PUT, "/items/a", large, StatusCode::PAYLOAD_TOO_LARGE).await;
    assert!(answer.contains("at most 10000 bytes"), "{answer}");
    let answer = ask(&mut client, Method::POST, "/render", "[]", StatusCode::BAD_REQUEST).await;
    assert!(answer.contains("JSON"), "{answer}");
    ask(&mut client, Method::POST, "/items/a", "1", StatusCode::METHOD_NOT_ALLOWED).await;
    ask(&mut client, Method::GET, "/nowhere", "", StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn items_of_all_connections_are_evicted_when_the_cache_is_full() {
    const CAPACITY: usize = 1 << 20;
    const CLIENTS: usize = 4;
    const ITEMS: usize = 300;
    let server = Server::start(&["--cache-bytes", &CAPACITY.to_string()]);
    let document = |client: usize, item: usize| json!({ "of": [client, item], "text": "y".repeat(3000) });
    let mut running = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = server.client().await;
        running.spawn(async move {
            for item in 0..ITEMS {
                let path = format!("/items/{number}-{item}");
                ask(&mut client, Method::PUT, &path, document(number, item), StatusCode::CREATED).await;
            }
        });
    }
    running.join_all().await;

    let mut client = server.client().await;
    let usage = usage(&mut client).await;
    assert!(usage.bytes <= CAPACITY && usage.bytes > CAPACITY / 2, "{usage:?}");
    assert_eq!(usage.items + usage.evicted as usize, CLIENTS * ITEMS, "{usage:?}");
    let mut held = 0;
    for (number, item) in (0..CLIENTS).flat_map(|number| (0..ITEMS).map(move |item| (number, item))) {
        let answer = client.send(Method::GET, &format!("/items/{number}-{item}"), "").await.unwrap();
        if answer.status == StatusCode::OK {
            held += 1;
            assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), document(number, item));
        }
    }
    assert_eq!(held, usage.items);
}

#[tokio::test]
async fn a_table_is_rendered() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let page = json!({ "title": "<Terraces>", "rows": [{ "name": "upper", "depth": 3 }] });
    let html = ask(&mut client, Method::POST, "/render", page, StatusCode::OK).await;
    assert!(html.contains("<h1>&lt;Terraces&gt;</h1>") && html.contains("<td>3</td><td>upper</td>"), "{html}");
}

#[tokio::test]
async fn the_statistics_are_those_of_the_heap_that_serves() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let before = ask(&mut client, Method::GET, "/stats", "", StatusCode::OK).await;
    for item in 0..100 {
        let document = json!("s".repeat(50_000));
        ask(&mut client, Method::PUT, &format!("/items/{item}"), document, StatusCode::CREATED).await;
    }
    let after = ask(&mut client, Method::GET, "/stats", "", StatusCode::OK).await;
    let stored = 100 * 50_000;
    assert!(bytes_of("live", &after) > bytes_of("live", &before) + stored, "{before}\n{after}");
    assert!(bytes_of("mapped", &after) > stored && bytes_of("resident", &after) > stored, "{after}");
    for line in ["cached", "remote", "system"] {
        assert!(after.lines().any(|found| found.starts_with(line)), "no {line} in:\n{after}");
    }
}

/// The figure of a line such as `live  12.3 MiB`, in bytes.
fn bytes_of(line: &str, statistics: &str) -> usize {
    let found = statistics.lines().find_map(|found| found.strip_prefix(line)).expect(statistics);
    let mut words = found.split_whitespace();
    let number: f64 = words.next().unwrap().parse().unwrap();
    let unit = match words.next() {
        Some("B") => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        other => panic!("{other:?} is no unit in:\n{statistics}"),
    };
    (number * f64::from(unit)) as usize
}

#[tokio::test]
async fn a_purge_loses_nothing() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let document = json!({ "text": "z".repeat(100_000) });
    ask(&mut client, Method::PUT, "/items/kept", &document, StatusCode::CREATED).await;
    ask(&mut client, Method::POST, "/purge", "", StatusCode::NO_CONTENT).await;
    let answer = ask(&mut client, Method::GET, "/items/kept", "", StatusCode::OK).await;
    assert_eq!(answer.parse::<Value>().unwrap(), document);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(&[]);
        let mut idle = server.client().await;
        usage(&mut idle).await;
        let mut connection = begin_to_put(server.address);
        server.signal(signal);
        // The idle connection is closed, so the server has heard the signal.
        while idle.send(Method::GET, "/health", "").await.is_ok() {}
        connection.write_all(b"\"a body.\"").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        assert!(server.end().success());
    }
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_the_server() {
    let mut server = Server::start(&["--grace", "1"]);
    let mut connection = begin_to_put(server.address);
    server.signal(Signal::SIGTERM);
    assert!(server.end().success());
    assert_eq!(connection.read(&mut [0; 1]).unwrap(), 0, "the connection is closed without an answer");
}

/// A request whose body of nine bytes is still to come, although the server has asked for it.
fn begin_to_put(server: SocketAddr) -> TcpStream {
    let mut connection = TcpStream::connect(server).unwrap();
    let head = "PUT /items/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    connection.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; 25];
    connection.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection
}

#[tokio::test]
async fn the_load_finds_no_wrong_answer_and_prints_the_statistics() {
    let mut server = Server::start(&["--self-load", "1", "--clients", "8", "--cache-bytes", "2000000"]);
    let status = server.end();
    let mut printed = String::new();
    server.output.read_to_string(&mut printed).unwrap();
    assert!(status.success(), "{printed}");
    assert!(printed.lines().any(|line| line.trim_end() == "errors           0"), "{printed}");
    let remote = printed.lines().find_map(|line| line.strip_prefix("remote")).expect(&printed);
    let frees: u64 = remote.split_whitespace().next().unwrap().parse().unwrap();
    assert!(frees > 0, "threads evict each other's items: {printed}");
}
