//! What two processes say to each other over the control socket: frames of JSON, each with its length
//! before it, and sockets beside them (`SCM_RIGHTS`, unix(7)).
//!
//! The words are versioned. Each side says which versions it knows, and the highest that both know is
//! spoken; a field that a reader does not know is passed over, so that an older and a newer binary
//! understand each other.

use crate::retained::Kept;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// The versions of the protocol that this build speaks.
pub(super) const PROTOCOLS: &[u32] = &[1];

/// The longest frame. State is the largest thing in one.
const LONGEST: usize = 16 << 20;
/// Sockets that go with one frame; the kernel takes 253 at most (`SCM_MAX_FD`).
pub(super) const BATCH: usize = 64;

/// A word of the protocol.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Anyone: who serves?
    Status,
    /// The serving process: I do.
    Running { pid: u32, build: String },
    /// A command: start a process that takes over from you, and tell what comes of it.
    Start {
        /// Another binary than the one that this process was started from.
        binary: Option<PathBuf>,
        /// Another configuration than this process's.
        config: Option<PathBuf>,
    },
    /// It runs, and has not taken over yet.
    Started { pid: u32 },
    /// It has taken over.
    Upgraded { pid: u32 },
    /// A new process: I want to take over.
    Hello {
        protocols: Vec<u32>,
        build: String,
        pid: u32,
        /// Whether it takes state that goes ahead.
        #[serde(default)]
        ahead: bool,
    },
    /// The serving process: so many sockets come, in batches.
    Sockets { protocol: u32, pid: u32, count: usize },
    /// Some of them.
    Batch { sockets: Vec<Handed> },
    /// A new process: I could serve at once.
    Ready,
    /// The serving process: this can go before I stop accepting. To those alone who say that they take it.
    State { state: Vec<Kept> },
    /// The serving process: I have stopped accepting; accept.
    Go {
        #[serde(default)]
        state: Vec<Kept>,
    },
    /// A new process: every listener accepts.
    Accepting,
    /// The serving process: I close mine.
    Done,
    /// A new process: I have heard that, and go on alone. From here on there is no way back. Builds before
    /// this word close the conversation instead.
    Serving,
    /// It comes to nothing, for this reason.
    Refused { why: String },
}

/// A socket that goes with a frame, at the same place in the list.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Handed {
    /// The listener's name, or `admin`.
    pub name: String,
    /// Where it is bound.
    pub address: SocketAddr,
    /// Whether it is the admin listener's.
    #[serde(default)]
    pub admin: bool,
}

/// Sends a frame, with these descriptors.
pub(super) fn send(mut stream: &UnixStream, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length as usize <= LONGEST);
    let Some(length) = length else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is longer than 16 MiB"));
    };
    let frame = [&length.to_be_bytes()[..], &text].concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many sockets in one message"));
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(&frame[sent..])
}

/// Receives a frame, with the descriptors that came along. The end of the stream is an error.
pub(super) fn receive(stream: &UnixStream) -> io::Result<(Message, Vec<OwnedFd>)> {
    let mut fds = Vec::new();
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        let read = receive_some(stream, &mut length[have..], &mut fds)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process has gone"));
        }
        have += read;
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message longer than 16 MiB"));
    }
    let mut text = Vec::new();
    stream.take(length as u64).read_to_end(&mut text)?;
    if text.len() < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process has gone"));
    }
    let message = serde_json::from_slice(&text).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("an unknown message: {error}"))
    })?;
    Ok((message, fds))
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(stream.as_fd(), &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            read => break read?.bytes,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(read)
}

/// The protocol to speak with somebody who knows these.
pub(super) fn common(theirs: &[u32]) -> Option<u32> {
    PROTOCOLS.iter().copied().filter(|known| theirs.contains(known)).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn words_and_sockets_arrive() {
        let (here, there) = UnixStream::pair().unwrap();
        let sockets: Vec<_> =
            (0..BATCH).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let handed = |socket: &std::net::TcpListener| Handed {
            name: "web".to_owned(),
            address: socket.local_addr().unwrap(),
            admin: false,
        };
        let batch = || Message::Batch { sockets: sockets.iter().map(handed).collect() };
        let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        send(&here, &batch(), &fds).unwrap();
        send(&here, &Message::Ready, &[]).unwrap();
        let (message, received) = receive(&there).unwrap();
        assert_eq!((message, received.len()), (batch(), BATCH));
        for (fd, socket) in received.into_iter().zip(&sockets) {
            assert_ne!(fd.as_raw_fd(), socket.as_raw_fd());
            let same = std::net::TcpListener::from(fd);
            assert_eq!(same.local_addr().unwrap(), socket.local_addr().unwrap());
        }
        assert_eq!(receive(&there).unwrap().0, Message::Ready);
        drop(here);
        assert_eq!(receive(&there).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [&b"\0\0\0\x02{}"[..], b"\xff\xff\xff\xff", b"\0\0\0\x05\"re", b"GET / HTTP/1.1\r\n\r\n"]
        {
            let (here, there) = UnixStream::pair().unwrap();
            (&here).write_all(bytes).unwrap();
            drop(here);
            assert!(receive(&there).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_older_and_a_newer_build_understand_each_other() {
        assert_eq!(common(&[1, 2, 3]), Some(1));
        assert_eq!(common(&[2, 3]), None);
        let newer =
            r#"{ "go": { "state": [{ "kind": "quota", "version": 7, "data": 1, "more": 2 }], "more": 1 } }"#;
        let Message::Go { state } = serde_json::from_str(newer).unwrap() else { panic!("no go") };
        assert_eq!((state[0].kind.as_str(), state[0].version), ("quota", 7));
        let older = r#"{ "go": {} }"#;
        assert_eq!(serde_json::from_str::<Message>(older).unwrap(), Message::Go { state: Vec::new() });
    }
}
