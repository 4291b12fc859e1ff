//! Where the lines go.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, created if missing, appended to.
    File(PathBuf),
}

/// A target, open.
pub(super) struct Sink {
    target: LogTarget,
    /// Without a buffer: the writer brings whole pages.
    file: File,
}

impl Sink {
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(Self { file: open(target)?, target: target.clone() })
    }

    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self { target: LogTarget::Stdout, file }
    }

    /// Opens a file anew, by its path; an error keeps the old one. Other targets stay as they are.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let LogTarget::File(_) = self.target {
            self.file = open(&self.target)?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            LogTarget::Stdout => f.write_str("standard output"),
            LogTarget::Stderr => f.write_str("standard error"),
            LogTarget::File(path) => write!(f, "{}", path.display()),
        }
    }
}

fn open(target: &LogTarget) -> io::Result<File> {
    match target {
        LogTarget::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        LogTarget::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        // O_NONBLOCK says nothing to a file; a FIFO that nobody reads is an error instead of a wait.
        LogTarget::File(path) => {
            OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK).open(path)
        }
    }
}
