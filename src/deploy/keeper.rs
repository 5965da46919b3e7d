//! `tokmark keep`: starts one process and ends it, with everything it started, as soon as tokmark ends in any way.
//!
//! ```text
//! tokmark ──pipe──▶ keeper ──▶ program ──▶ its processes, also those that left its group or session
//! ```
//!
//! The keeper reads a pipe whose other end only tokmark holds: its end means that tokmark is gone, also by SIGKILL. Orphans of the
//! program become children of the keeper (`PR_SET_CHILD_SUBREAPER`), so it finds all of them. The program itself gets SIGKILL if
//! the keeper dies (`PR_SET_PDEATHSIG`). The keeper ends as the program ended, and blocks the signals of their common group.

use std::io::{Error, Read, Result};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, getppid};

use crate::node::processes::Process;

/// The byte that asks the keeper to kill at once.
pub const KILL: u8 = b'k';

/// How long processes may take to end by themselves once tokmark is gone.
const GRACE: Duration = Duration::from_secs(2);

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts `argv` by way of [`become_program`] of `tokmark`, and stays until it has ended. Returns the code to exit with.
pub fn keep(tokmark: &str, argv: &[String]) -> Result<u8> {
    SigSet::all().thread_block()?;
    prctl::set_child_subreaper(true)?;
    // Another name than tokmark, so that `pkill -9 tokmark` leaves the keeper alive to clean up.
    prctl::set_name(c"server-keeper")?;
    let keeper = std::process::id().to_string();
    let child = Command::new(tokmark)
        .args(["keep", "--of", &keeper, "--"])
        .args(argv)
        .stdin(Stdio::null())
        .spawn()?;
    std::thread::spawn(|| {
        let mut byte = [0];
        let read = std::io::stdin().lock().read(&mut byte);
        end_all(if matches!(read, Ok(1)) && byte == [KILL] { Duration::ZERO } else { GRACE });
    });
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let status = loop {
        match wait() {
            Ok(status) if status.pid() == Some(pid) => break status,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    end_all(Duration::ZERO);
    match status {
        WaitStatus::Exited(_, code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => die_of(signal),
        other => Err(Error::other(format!("unexpected status {other:?}"))),
    }
}

/// Replaces this process, a child of `keeper`, by the program.
pub fn become_program(keeper: u32, argv: &[String]) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid().as_raw().unsigned_abs() != keeper {
        return Err(Error::other("the keeper is gone"));
    }
    SigSet::empty().thread_set_mask()?;
    let (program, args) = argv.split_first().ok_or_else(|| Error::other("no program"))?;
    let error = Command::new(program).args(args).exec();
    Err(Error::new(error.kind(), format!("cannot start {program:?}: {error}")))
}

/// Ends this process by a signal, without a core dump.
fn die_of(signal: Signal) -> Result<u8> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let mut only = SigSet::empty();
    only.add(signal);
    only.thread_unblock()?;
    // Of SIGSEGV and SIGBUS the runtime takes the first one, for stack overflows.
    raise(signal)?;
    raise(signal)?;
    // The signal is one that does not end a process.
    Ok(128 + u8::try_from(signal as i32).unwrap_or_default())
}

/// Ends every descendant: SIGTERM, the grace, SIGKILL until none is left.
fn end_all(grace: Duration) {
    if !grace.is_zero() {
        signal_all(Signal::SIGTERM);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline && !Process::descendants(std::process::id()).is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while signal_all(Signal::SIGKILL) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Signals every descendant; `false` if none lives.
fn signal_all(signal: Signal) -> bool {
    let all = Process::descendants(std::process::id());
    for process in &all {
        let _ = kill(Pid::from_raw(i32::try_from(process.pid).unwrap_or(i32::MAX)), signal);
    }
    !all.is_empty()
}
