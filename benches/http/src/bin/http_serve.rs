//! The example HTTP server on the global allocator that the package was built with. It says where it listens, serves until
//! its standard input is closed, and then says what it used, as a line of JSON like that of `program`.

use clap::Parser;
use http_server::app;
use http_server::cache::Cache;
use serde_json::json;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use terrace_bench::global::Global;
use terrace_bench::process::{Resident, Usage, mappings, provider};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[global_allocator]
static GLOBAL: Global = Global;

/// The example HTTP server, as a benchmark serves it
#[derive(Parser)]
struct Options {
    /// Threads that serve requests
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    threads: usize,

    /// How long to stay after the last request, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    rest: u64,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads).enable_all().build()?;
    #[cfg(feature = "timed")]
    let calibration = terrace_bench::latency::begin();
    let (stop, stopped) = oneshot::channel();
    std::thread::spawn(move || {
        // The end of the input is the sign; an error would be the end as well.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = stop.send(());
    });
    let cache = Arc::new(Cache::new(16 << 20));
    let served = Arc::clone(&cache);
    runtime.block_on(async move {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("listening on {}", listener.local_addr()?);
        let stopped = async {
            let _ = stopped.await;
        };
        app::serve(listener, served, stopped, Duration::from_secs(5)).await
    })?;
    let (usage, after) = (Usage::now(), Resident::of("self")?);
    let mut report = json!({
        "provider": provider(),
        "cpu_ns": usage.cpu_ns,
        "system_ns": usage.system_ns,
        "faults": usage.faults,
        "peak_kib": after.peak_kib,
        "resident_kib": after.total_kib,
        "mappings": mappings("self")?,
    });
    #[cfg(feature = "timed")]
    {
        report["latency"] = serde_json::from_str(&terrace_bench::latency::report(&calibration))?;
    }
    if options.rest > 0 {
        // The server stands idle, its threads alive and its cache emptied.
        drop(cache);
        std::thread::sleep(Duration::from_millis(options.rest));
        report["rested_kib"] = Resident::of("self")?.total_kib.into();
    }
    println!("{report}");
    Ok(())
}
