use crate::values::Problem;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel keeps for us until they are accepted; it may cut this down
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Binds a listening socket, ready for [`ListenerSpec`](super::ListenerSpec). An IPv6 socket takes
/// IPv6 alone, so that `0.0.0.0:80` and `[::]:80` can be two listeners.
///
/// # Errors
/// Why the address cannot be bound, and what to do about it.
pub fn bind(address: SocketAddr) -> Result<TcpListener, Problem> {
    open(address).map_err(|error| explain(address, &error))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for the connections of the process before it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn explain(address: SocketAddr, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::AddrInUse => Problem::new(format!("address {address} is in use"))
            .remedy("another process, or another listener, has it: stop that one, or choose another port"),
        io::ErrorKind::PermissionDenied => Problem::new(format!("no permission to bind {address}"))
            .remedy("ports below 1024 need the capability `CAP_NET_BIND_SERVICE`; or choose a higher port"),
        io::ErrorKind::AddrNotAvailable => Problem::new(format!("address {address} is not this machine's"))
            .remedy("use the address of one of its interfaces, or `0.0.0.0` or `[::]` for all of them"),
        _ => Problem::new(format!("cannot bind {address}: {error}")),
    }
}
