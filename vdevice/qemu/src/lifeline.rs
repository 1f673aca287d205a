//! The lifeline: QEMU ends when whoever started it does.
//!
//! The harness holds the write end of a pipe, and we read. However the harness dies, the kernel closes its
//! end, and the read returns. There is no process to poll, no signal to miss, and it does not matter which
//! thread forked.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::thread;

use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_setfd};
use thiserror::Error;

/// What QEMU exits with when its lifeline ends.
const EXIT_CODE: i32 = 3;

/// Why there is no lifeline.
#[derive(Debug, Error)]
pub(crate) enum LifelineError {
    #[error("lifeline={0}: not a file descriptor; give the number of the read end of a pipe")]
    NotANumber(String),
    #[error("lifeline={0}: not open in this process; give the number of an inherited pipe")]
    NotOpen(RawFd),
    #[error("lifeline={0}: not a pipe; give the read end of one")]
    NotAPipe(RawFd),
    #[error("lifeline={0}: cannot start the thread that waits for it: {1}")]
    NoThread(RawFd, std::io::Error),
}

/// The read end of the pipe, checked.
#[derive(Debug)]
pub(crate) struct Lifeline {
    fd: RawFd,
}

impl Lifeline {
    /// Checks what the user gave.
    pub(crate) fn parse(value: &str) -> Result<Self, LifelineError> {
        let fd = value.parse::<RawFd>().ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(|| LifelineError::NotANumber(value.to_owned()))?;
        // SAFETY: only asked about; a closed one is answered with an error.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let stat = fstat(borrowed).map_err(|_| LifelineError::NotOpen(fd))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo | FileType::Socket => {}
            _ => return Err(LifelineError::NotAPipe(fd)),
        }
        // What QEMU starts must not read from it.
        fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| LifelineError::NotOpen(fd))?;
        Ok(Self { fd })
    }

    /// Waits on a thread of its own, and ends the process at the end of the pipe.
    pub(crate) fn hold(self) -> Result<(), LifelineError> {
        let fd = self.fd;
        let thread = thread::Builder::new().name("squall-lifeline".to_owned());
        // Signals are QEMU's main thread's. A new thread has the mask of the one that makes it.
        let masked = SignalMask::block_all();
        let spawned = thread.spawn(move || wait(fd));
        drop(masked);
        spawned.map(drop).map_err(|error| LifelineError::NoThread(fd, error))
    }
}

fn wait(fd: RawFd) {
    // SAFETY: checked to be open, and handed to us by whoever started QEMU; nobody else has a use for it.
    let mut pipe = unsafe { File::from_raw_fd(fd) };
    let mut byte = [0];
    loop {
        match pipe.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // Nothing is flushed, nothing is waited for: QEMU may hang, and must end all the same.
    // SAFETY: ends the process.
    unsafe { libc::_exit(EXIT_CODE) };
}

/// All signals blocked in this thread, until dropped.
struct SignalMask {
    before: libc::sigset_t,
}

impl SignalMask {
    fn block_all() -> Self {
        // SAFETY: a set of signals is an array of words, for which zeroes are a value.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        let mut before = all;
        // SAFETY: a set of ours.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: two sets of ours; only this thread's mask changes.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Self { before }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: the set that was this thread's mask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_open_pipes_are_lifelines() {
        let refused = |value: &str| Lifeline::parse(value).unwrap_err().to_string();
        for value in ["", "on", "-1", "3x", "99999999999"] {
            assert!(refused(value).contains("not a file descriptor"), "{value}");
        }
        assert!(refused("999999").contains("not open"));
        let file = File::open("/dev/null").unwrap();
        assert!(refused(&file.as_raw_fd().to_string()).contains("not a pipe"));
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(Lifeline::parse(&reader.as_raw_fd().to_string()).unwrap().fd, reader.as_raw_fd());
    }
}
