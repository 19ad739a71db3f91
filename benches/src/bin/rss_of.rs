//! `rss_of COMMAND [ARGS]`: the resident memory of a program at the moment it exits, as a line of JSON.
//!
//! The kernel's `ru_maxrss` will not do: it keeps the peak of the process image that called `exec`. So the program is traced
//! from its `exec` on, stopped as it exits, and its memory map is read while it still stands. The variable
//! `RSS_OF_PRELOAD` becomes the program's `LD_PRELOAD`.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::ptr::null_mut;
use terrace_bench::process::Resident;

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

fn observe(command: &mut Command) -> io::Result<Resident> {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(trace_me) };
    let pid = command.stdout(Stdio::null()).spawn()?.id() as i32;
    wait_for(pid)?;
    stop_at_exit(pid)?;
    resume(pid, 0)?;
    let mut resident = None;
    loop {
        let status = wait_for(pid)?;
        if !libc::WIFSTOPPED(status) {
            return resident.ok_or_else(|| io::Error::other("the program ended without an exit stop"));
        }
        if status >> 8 == EXIT_STOP {
            resident = Some(Resident::of(&pid.to_string())?);
            resume(pid, 0)?;
        } else {
            resume(pid, libc::WSTOPSIG(status))?;
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("rss_of: use: rss_of COMMAND [ARGS]");
        return ExitCode::FAILURE;
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(library) = std::env::var_os("RSS_OF_PRELOAD") {
        command.env("LD_PRELOAD", library);
    }
    match observe(&mut command) {
        Ok(Resident { total_kib, anonymous_kib, peak_kib }) => {
            println!("{{\"resident_kib\": {total_kib}, \"anonymous_kib\": {anonymous_kib}, \"peak_kib\": {peak_kib}}}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rss_of: {error}");
            ExitCode::FAILURE
        }
    }
}
