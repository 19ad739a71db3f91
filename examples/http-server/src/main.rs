//! The server as a program: `http-server --help` tells its options.

use clap::Parser;
use http_server::cache::Cache;
use http_server::{app, load};
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

#[global_allocator]
static GLOBAL: terrace::Terrace = terrace::Terrace;

/// An HTTP server with a cache of JSON documents, on the Terrace memory allocator
///
/// PUT, GET and DELETE /items/KEY; POST /render; GET /health; GET /stats for the allocator's statistics; POST /purge to
/// return unused memory to the kernel.
#[derive(Parser)]
struct Options {
    /// The address to listen on; with port 0 the system chooses one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Threads that serve requests [default: one for each processor]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    /// How much the cache holds, counted as JSON text
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    cache_bytes: usize,

    /// How long requests under way may take to finish after SIGINT or SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u16,

    /// Serve this program's own clients for so long, check every answer, print the statistics and exit
    #[arg(long, value_name = "SECONDS")]
    self_load: Option<u16>,

    /// Clients of --self-load
    #[arg(long, value_name = "NUMBER", default_value_t = 32)]
    clients: u16,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match start(options) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("http-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        runtime.worker_threads(threads.into());
    }
    runtime.enable_all().build()?.block_on(run(options))
}

async fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let interrupted = interruption()?;
    let cache = Arc::new(Cache::new(options.cache_bytes));
    let listener = TcpListener::bind(options.listen).await.map_err(|error| format!("{}: {error}", options.listen))?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");

    let grace = Duration::from_secs(options.grace.into());
    let Some(seconds) = options.self_load else {
        app::serve(listener, cache, interrupted, grace).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        let _ = stopped.await;
    };
    let server = tokio::spawn(app::serve(listener, Arc::clone(&cache), stopped, grace));
    let begin = Instant::now();
    let outcome = load::run(address, options.clients.into(), async {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds.into())) => {}
            () = interrupted => {}
        }
    });
    let outcome = outcome.await;
    let elapsed = begin.elapsed();
    let _ = stop.send(());
    server.await??;
    Ok(conclude(&outcome, elapsed, &cache))
}

/// Ready when the program is asked to end.
fn interruption() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Prints what the clients did and what the heap did. A load that served nothing has failed, too.
fn conclude(outcome: &load::Outcome, elapsed: Duration, cache: &Cache) -> ExitCode {
    let (requests, errors) = (outcome.requests, outcome.errors.len());
    let usage = cache.usage();
    println!(
        "requests served  {requests} in {:.1} s, {:.0} a second",
        elapsed.as_secs_f64(),
        requests as f64 / elapsed.as_secs_f64()
    );
    println!("errors           {errors}");
    println!("reads            {} found, {} not in the cache", outcome.hits, outcome.misses);
    println!("cache            {} items of {} bytes, {} evicted", usage.items, usage.bytes, usage.evicted);
    println!("\n{}", terrace::statistics());
    for error in &outcome.errors {
        eprintln!("http-server: a client gave up: {error}");
    }
    if errors == 0 && requests > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
