//! The process as the kernel counts it, read from `/proc/self`. What cannot be read is left out.

use std::fs;

/// The kernel tells times to user space in hundredths of a second on every architecture of Linux
/// that Rust's standard library runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What never changes.
pub(super) struct Process {
    start_time: Option<f64>,
}

/// A reading; times in seconds, sizes in bytes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub cpu: Option<f64>,
    pub open_fds: Option<f64>,
    pub max_fds: Option<f64>,
    pub resident: Option<f64>,
    pub virtual_memory: Option<f64>,
    pub threads: Option<f64>,
    pub start_time: Option<f64>,
}

impl Process {
    pub(super) fn new() -> Self {
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|stat| number_after(&stat, "btime"));
        let started = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| ticks(&stat, 19));
        Self { start_time: boot.zip(started).map(|(boot, started)| boot + started / TICKS_PER_SECOND) }
    }

    pub(super) fn read(&self) -> Reading {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |field| number_after(&status, field).map(|kib| kib * 1024.0);
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        Reading {
            cpu: ticks(&stat, 11)
                .zip(ticks(&stat, 12))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            // The folder that is being read is open too.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64),
            max_fds: limit.ok().map(|(soft, _)| soft as f64),
            resident: kib("VmRSS:"),
            virtual_memory: kib("VmSize:"),
            threads: number_after(&status, "Threads:"),
            start_time: self.start_time,
        }
    }
}

/// A field of `/proc/self/stat`, counted from 0 after the command's name, which may hold anything.
fn ticks(stat: &str, field: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(field)?.parse().ok()
}

fn number_after(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let reading = Process::new().read();
        assert!(reading.open_fds.is_some_and(|fds| fds >= 3.0), "{reading:?}");
        assert!(reading.max_fds >= reading.open_fds, "{reading:?}");
        assert!(reading.resident.is_some_and(|bytes| bytes > 1e6), "{reading:?}");
        assert!(reading.virtual_memory >= reading.resident, "{reading:?}");
        assert!(reading.threads.is_some_and(|threads| threads >= 2.0), "{reading:?}");
        assert!(reading.cpu.is_some(), "{reading:?}");
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(reading.start_time.is_some_and(|start| start > 1e9 && start < now + 2.0), "{reading:?}");
    }

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        assert_eq!(ticks("7 (a ) b) R 1 2", 1), Some(1.0));
    }
}
