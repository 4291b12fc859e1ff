//! How much memory this process has, and how much it may have.

use std::fs;
use std::path::Path;

/// What the process may have: the least of what its control groups and the machine allow, in bytes. None if that
/// cannot be read.
pub fn allowed() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib(&text, "MemTotal:"));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = group(&own).map(|group| bound(Path::new("/sys/fs/cgroup"), group));
    // Version 1 shows the process's own group here in a container.
    let first = fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    let first = first.ok().and_then(|text| text.trim().parse().ok());
    [machine, groups.flatten(), first].into_iter().flatten().min()
}

/// What the process has in memory, in bytes.
pub fn resident() -> Option<u64> {
    fs::read_to_string("/proc/self/status").ok().and_then(|text| kib(&text, "VmRSS:"))
}

/// A size that the kernel writes in KiB, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The path of the group of version 2 (cgroups(7)), without the leading slash.
fn group(own: &str) -> Option<&str> {
    own.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The least bound of a group and of those that it is in.
fn bound(root: &Path, group: &str) -> Option<u64> {
    let of = |folder: &Path| {
        // `max` is no bound.
        fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse::<u64>().ok()
    };
    let folder = root.join(group);
    folder.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(of).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_less_than_it_may() {
        let (resident, allowed) = (resident().unwrap(), allowed().unwrap());
        assert!(resident > 1 << 20 && resident < allowed, "{resident} of {allowed}");
    }

    #[test]
    fn the_least_bound_of_all_groups_holds() {
        let root = tempfile::TempDir::new().unwrap();
        let inner = root.path().join("system.slice/tollgate.service");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(bound(root.path(), "system.slice/tollgate.service"), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(bound(root.path(), "system.slice/tollgate.service"), None);
        fs::write(root.path().join("system.slice/memory.max"), "2147483648\n").unwrap();
        assert_eq!(bound(root.path(), "system.slice/tollgate.service"), Some(2 << 30));
        fs::write(inner.join("memory.max"), "1073741824\n").unwrap();
        assert_eq!(bound(root.path(), "system.slice/tollgate.service"), Some(1 << 30));
        fs::write(root.path().join("memory.max"), "536870912\n").unwrap();
        assert_eq!(bound(root.path(), ""), Some(512 << 20));
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(kib("MemTotal:       24612345 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(24_612_345 * 1024));
        assert_eq!(kib("MemFree: 1 kB\n", "MemTotal:"), None);
        assert_eq!(group("12:cpu:/x\n0::/system.slice/a.service\n"), Some("system.slice/a.service"));
        assert_eq!(group("3:memory:/docker/x\n"), None);
    }
}
