//! Listening sockets that whoever started this process has bound for it (sd_listen_fds(3)).

use crate::values::Problem;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// The most that are taken.
const MOST: usize = 4096;

/// A socket that this process was started with.
#[derive(Debug)]
pub struct Inherited {
    name: String,
    address: SocketAddr,
    socket: TcpListener,
}

/// Takes the sockets that this environment speaks of: `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`. None
/// where it speaks of another process. To be called once, before anything else opens a file.
///
/// # Errors
/// The environment speaks of what is not there, or of what is no listening TCP socket.
pub fn inherited(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<Inherited>, Problem> {
    let text = |name: &str| variable(name).map(|text| text.to_string_lossy().into_owned());
    let is_ours = text("LISTEN_PID").is_some_and(|pid| pid.parse() == Ok(std::process::id()));
    let Some(count) = text("LISTEN_FDS").filter(|_| is_ours) else { return Ok(Vec::new()) };
    let count = count.parse::<usize>().ok().filter(|count| *count <= MOST).ok_or_else(|| {
        Problem::new(format!("`LISTEN_FDS={count}` is no number of sockets up to {MOST}"))
            .remedy("it is set by systemd for a socket unit: start without it")
    })?;
    let names = text("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    (FIRST..).take(count).map(|fd| take(fd, names.next().unwrap_or_default())).collect()
}

fn take(fd: RawFd, name: String) -> Result<Inherited, Problem> {
    let wrong = |what: &str| {
        Problem::new(format!("socket {fd} (`{name}`), which this process was started with, {what}")).remedy(
            "a socket unit for Tollgate has `ListenStream=` with an IP address and a port, and nothing else",
        )
    };
    // A descriptor that is not open must not be owned.
    let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| wrong("is not open"))?;
    if !target.to_string_lossy().starts_with("socket:") {
        return Err(wrong("is no socket"));
    }
    #[expect(unsafe_code, reason = "the protocol passes descriptors by number alone")]
    // SAFETY: it is open, as was just seen, and by the protocol it is this process's to own: nothing here
    // has opened it, and this function is called once for each.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let socket = Socket::from(fd);
    let is_listening = socket.is_listener().unwrap_or(false);
    let is_tcp = matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6))
        && matches!(socket.r#type(), Ok(Type::STREAM));
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    let Some(address) = address.filter(|_| is_tcp && is_listening) else {
        return Err(wrong("is no TCP socket that listens"));
    };
    let ready = socket.set_nonblocking(true).and_then(|()| socket.set_cloexec(true));
    ready.map_err(|error| wrong(&format!("cannot be used: {error}")))?;
    Ok(Inherited { name, address, socket: socket.into() })
}

/// Gives each socket to the listener with its address; where the port of a listener is 0, to the one of
/// its name. `wanted` is name and address of each listener.
///
/// # Errors
/// A socket is for no listener: requests would wait in it for ever.
pub fn by_listener(
    sockets: Vec<Inherited>,
    wanted: &[(&str, SocketAddr)],
) -> Result<BTreeMap<String, TcpListener>, Problem> {
    let mut found = BTreeMap::new();
    for Inherited { name, address, socket } in sockets {
        let fits = |(listener, at): &&(&str, SocketAddr)| {
            *at == address || (at.port() == 0 && *listener == name && at.ip() == address.ip())
        };
        let free = wanted.iter().filter(|(listener, _)| !found.contains_key(*listener));
        let Some((listener, _)) = free.clone().find(fits) else {
            return Err(unwanted(&name, address, wanted));
        };
        log::info!(
            "socket taken over from the supervisor listener={listener} address={address} name={name:?}"
        );
        found.insert((*listener).to_owned(), socket);
    }
    Ok(found)
}

fn unwanted(name: &str, address: SocketAddr, wanted: &[(&str, SocketAddr)]) -> Problem {
    let all: Vec<String> = wanted.iter().map(|(name, address)| format!("`{name}` {address}")).collect();
    let what = format!(
        "this process was started with a socket bound to {address} (`{name}`), which is no listener's; there are {}",
        all.join(", ")
    );
    Problem::new(what).remedy("give a listener this address, or take it out of the socket unit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Vec<Inherited>, Problem> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        inherited(|name| find(name).map(|(_, value)| value.into()))
    }

    #[test]
    fn an_environment_that_is_about_somebody_else() {
        let own = std::process::id().to_string();
        let none = [
            &[][..],
            &[("LISTEN_FDS", "2")],
            &[("LISTEN_FDS", "2"), ("LISTEN_PID", "1")],
            &[("LISTEN_FDS", "2"), ("LISTEN_PID", "me")],
            &[("LISTEN_PID", &own)],
            &[("LISTEN_PID", &own), ("LISTEN_FDS", "0")],
        ];
        for variables in none {
            assert!(of(variables).unwrap().is_empty(), "{variables:?}");
        }
        for count in ["", "-1", "x", "1000000", "18446744073709551616"] {
            let problem = of(&[("LISTEN_PID", &own), ("LISTEN_FDS", count)]).unwrap_err();
            assert!(problem.what.contains("LISTEN_FDS"), "{problem}");
        }
    }

    fn socket(name: &str) -> Inherited {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Inherited { name: name.to_owned(), address: socket.local_addr().unwrap(), socket }
    }

    #[test]
    fn sockets_are_found_by_address_and_then_by_name() {
        let sockets = [socket("a"), socket("web"), socket("admin")];
        let [a, b, c] = [&sockets[0], &sockets[1], &sockets[2]].map(|socket| socket.address);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let wanted = [("first", a), ("web", any), ("admin", c), ("more", "127.0.0.1:1".parse().unwrap())];
        let found = by_listener(sockets.into(), &wanted).unwrap();
        let addresses: Vec<_> = found.iter().map(|(name, s)| (&**name, s.local_addr().unwrap())).collect();
        assert_eq!(addresses, [("admin", c), ("first", a), ("web", b)]);
    }

    #[test]
    fn a_socket_of_nobodys_is_refused() {
        let stray = socket("web");
        let address = stray.address;
        let port = if address.port() == 1 { 2 } else { 1 };
        for wanted in [
            &[][..],
            &[("web", SocketAddr::from(([127, 0, 0, 1], port)))],
            &[("web", "[::1]:0".parse().unwrap())],
            &[("other", "127.0.0.1:0".parse().unwrap())],
        ] {
            let socket = stray.socket.try_clone().unwrap();
            let again = Inherited { name: "web".to_owned(), address, socket };
            let problem = by_listener(vec![again], wanted).unwrap_err();
            assert!(problem.what.contains(&address.to_string()), "{problem}");
        }
        let twice = [socket("web"), socket("web")];
        let problem = by_listener(twice.into(), &[("web", "127.0.0.1:0".parse().unwrap())]).unwrap_err();
        assert!(problem.what.contains("no listener's"), "{problem}");
    }
}
