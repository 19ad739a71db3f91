//! The C face: the workloads on `malloc` and its family, from whichever library the dynamic linker found them in. Run it
//! under `LD_PRELOAD`; the heap's name is only a label, and `provider` in the output says whose `malloc` it really was. The
//! heap `nothing` replaces the calls by a pair that does nothing.

use std::process::ExitCode;
use terrace_bench::command::{self, Command};
use terrace_bench::harness_memory::MappedMemory;
use terrace_bench::heaps::{Nothing, Preloaded};
use terrace_bench::process::provider;

#[global_allocator]
static HARNESS: MappedMemory = MappedMemory;

fn execute(command: Command) -> Result<(), String> {
    let Command::Run { heap, row, amount } = command else {
        command::list::<Preloaded>();
        return Ok(());
    };
    println!("{{\"provider\": {:?}}}", provider());
    let run = if heap == "nothing" { command::run::<Nothing> } else { command::run::<Preloaded> };
    run(&heap, &row, amount)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Command::parse(&arguments).and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("c_face: {message}");
            ExitCode::FAILURE
        }
    }
}
