//! `launch REPORT COMMAND [ARGS]`: runs any program and writes what it used to the file REPORT, as an object of JSON.
//!
//! Resident memory is read at the moment of the exit: the kernel's `ru_maxrss` alone will not do, since it keeps the peak of
//! the process image that called `exec`. So the program is traced from its `exec` on, stopped as it exits, and its memory
//! map is read while it still stands. Where it had children whose peak was higher than its own and than this launcher's, that
//! of the largest child counts. The variable `LAUNCH_PRELOAD` becomes the program's `LD_PRELOAD`. The standard streams are
//! the program's.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::ptr::null_mut;
use std::time::Instant;
use terrace_bench::process::{Resident, Usage, mappings};

/// The stop that the kernel reports when a traced process is about to exit.
const EXIT_STOP: i32 = libc::SIGTRAP | (libc::PTRACE_EVENT_EXIT << 8);

fn trace_me() -> io::Result<()> {
    // SAFETY: the request only marks the calling process as traced by its parent.
    let result = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<u8>(), null_mut::<u8>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn wait_for(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to an integer of ours.
    let result = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

fn stop_at_exit(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_EXITKILL;
    // SAFETY: the child is stopped and traced by us; options are passed by value.
    let result = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, null_mut::<u8>(), options as libc::c_long) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn resume(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: the child is stopped and traced by us; the signal is passed by value.
    let result = unsafe { libc::ptrace(libc::PTRACE_CONT, pid, null_mut::<u8>(), signal as libc::c_long) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a program was seen to use.
struct Observed {
    wall_ns: u128,
    resident: Resident,
    mappings: u64,
    usage: Usage,
    /// The exit status; 128 more than the signal for one that was killed.
    status: i32,
}

fn observe(command: &mut Command) -> io::Result<Observed> {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(trace_me) };
    let begin = Instant::now();
    let pid = command.spawn()?.id() as i32;
    wait_for(pid)?;
    stop_at_exit(pid)?;
    resume(pid, 0)?;
    let (mut resident, mut maps): (Option<Resident>, u64) = (None, 0);
    loop {
        let status = wait_for(pid)?;
        if !libc::WIFSTOPPED(status) {
            let wall_ns = begin.elapsed().as_nanos();
            let status = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
            let mut resident = resident.ok_or_else(|| io::Error::other("the program ended without an exit stop"))?;
            let usage = Usage::of_children();
            let own_peak = Resident::of("self")?.peak_kib;
            if usage.largest_kib > resident.peak_kib.max(own_peak) {
                resident.peak_kib = usage.largest_kib;
            }
            return Ok(Observed { wall_ns, resident, mappings: maps, usage, status });
        }
        if status >> 8 == EXIT_STOP {
            resident = Some(Resident::of(&pid.to_string())?);
            maps = mappings(&pid.to_string())?;
            resume(pid, 0)?;
        } else {
            resume(pid, libc::WSTOPSIG(status))?;
        }
    }
}

fn run() -> Result<i32, String> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(report), Some(program)) = (arguments.next(), arguments.next()) else {
        return Err("use: launch REPORT COMMAND [ARGS]".into());
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(library) = std::env::var_os("LAUNCH_PRELOAD") {
        command.env_remove("LAUNCH_PRELOAD").env("LD_PRELOAD", library);
    }
    let seen = observe(&mut command).map_err(|error| error.to_string())?;
    let text = format!(
        "{{\"wall_ns\": {}, \"cpu_ns\": {}, \"system_ns\": {}, \"faults\": {}, \"peak_kib\": {}, \"resident_kib\": {}, \
         \"anonymous_kib\": {}, \"mappings\": {}}}\n",
        seen.wall_ns,
        seen.usage.cpu_ns,
        seen.usage.system_ns,
        seen.usage.faults,
        seen.resident.peak_kib,
        seen.resident.total_kib,
        seen.resident.anonymous_kib,
        seen.mappings,
    );
    std::fs::write(report, text).map_err(|error| error.to_string())?;
    Ok(seen.status)
}

fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status as u8),
        Err(message) => {
            eprintln!("launch: {message}");
            ExitCode::FAILURE
        }
    }
}
