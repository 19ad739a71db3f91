//! Stands between the caller and the command without being noticed: signals go down, the way it ended goes up.
//!
//! The command stays in the caller's process group, so that job control and the terminal treat both as one job. What the
//! terminal sends (interrupt, quit, stop) it sends to the whole group, and the kernel marks it as its own; only what a
//! process sent to `terrace` alone needs passing on. The two cannot be told apart when a process signals the whole
//! group: then the command may get a signal twice.
//!
//! All signals are waited for in one place and by one thread, which also is the only one to reap the command: so a
//! signal can never go to a stranger who has been given the command's process ID.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

/// What people and service managers send to a program. The stop signals are not among them: `terrace` stops and
/// continues by itself, like the rest of the job.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
];

/// How the command ended.
pub struct Ended {
    /// Its process ID.
    pub process: u32,
    /// Its exit status, or the signal that ended it.
    pub status: ExitStatus,
}

/// Runs the command to its end.
pub fn run(mut command: Command) -> io::Result<Ended> {
    let mut awaited: SigSet = PASSED_ON.into_iter().collect();
    awaited.add(Signal::SIGCHLD);
    // Blocked before the command starts, so that no signal falls between; a handler would not do, since a signal that
    // the caller ignores (`nohup`) must stay ignored in the command.
    let callers_mask = awaited.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // A caller that ignores SIGCHLD hands that down, and then nobody could learn how the command ended.
    // SAFETY: no handler is installed, so none can run at a bad moment.
    let callers_child_handler = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;

    let as_the_caller_had_it = move || {
        // SAFETY: what is put back is what the caller set: the default, or to be ignored.
        unsafe { signal(Signal::SIGCHLD, callers_child_handler) }?;
        callers_mask.thread_set_mask()?;
        Ok(())
    };
    // SAFETY: the closure makes two system calls that are safe after `fork`, and touches no memory but its own.
    unsafe { command.pre_exec(as_the_caller_had_it) };

    let signals = SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC)?;
    let mut child = command.spawn()?;
    loop {
        let Some(received) = signals.read_signal()? else { continue };
        let number = received.ssi_signo.cast_signed();
        if number == Signal::SIGCHLD as i32 {
            if let Some(status) = child.try_wait()? {
                return Ok(Ended { process: child.id(), status });
            }
        } else if sent_by_a_process(received.ssi_code) {
            // The command has not been reaped, so its process ID is still its own. One that runs as another user may
            // refuse the signal, as it would have refused its sender.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::try_from(number)?);
        }
    }
}

/// Whether the code of a signal says `kill`, `sigqueue` and the like; the kernel's own codes are positive
/// (sigaction(2), `si_code`).
fn sent_by_a_process(code: i32) -> bool {
    code <= 0
}

/// Ends this process as the command ended: a shell then says of `terrace run` what it would say of the command.
pub fn end_alike(status: ExitStatus) -> ! {
    let Some(number) = status.signal() else {
        std::process::exit(exit_code(status));
    };
    if let Ok(fatal) = Signal::try_from(number) {
        let Err(_) = die_by(fatal);
    }
    // Real-time signals have no name here.
    std::process::exit(exit_code(status))
}

/// Returns only when the signal did not end the process.
fn die_by(fatal: Signal) -> nix::Result<Infallible> {
    // The command has written its core file; this one would replace it.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if fatal != Signal::SIGKILL {
        // SAFETY: the default action takes the place of a handler; none is installed.
        unsafe { signal(fatal, SigHandler::SigDfl) }?;
        SigSet::from(fatal).thread_unblock()?;
    }
    raise(fatal)?;
    Err(nix::errno::Errno::EAGAIN)
}

/// The exit status in a shell's terms: 128 more than the signal's number for a command that a signal ended.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(125)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_mapped_as_a_shell_does() {
        let code = |wait_status| exit_code(ExitStatus::from_raw(wait_status));
        assert_eq!(code(0), 0);
        assert_eq!(code(3 << 8), 3);
        assert_eq!(code(255 << 8), 255);
        assert_eq!(code(Signal::SIGTERM as i32), 128 + 15);
        assert_eq!(code(34), 128 + 34, "a real-time signal");
    }

    #[test]
    fn only_signals_of_processes_are_passed_on() {
        assert!(sent_by_a_process(nix::libc::SI_USER));
        assert!(sent_by_a_process(nix::libc::SI_QUEUE));
        assert!(sent_by_a_process(nix::libc::SI_TKILL));
        assert!(!sent_by_a_process(nix::libc::SI_KERNEL));
    }
}
