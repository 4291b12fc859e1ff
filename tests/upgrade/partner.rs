//! The other side of a hand-over, written apart from the gateway's own code: frames of JSON behind
//! their length, and sockets beside them.

use crate::harness::{PATIENCE, wait_until};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// One end of a conversation.
pub struct Partner(UnixStream);

impl Partner {
    pub fn connect(control: &Path) -> Self {
        let stream = UnixStream::connect(control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// One that has the sockets.
    pub fn joined(control: &Path) -> Self {
        // The one before may not have been noticed to be gone.
        let mut begun = None;
        wait_until("a hand-over begins", || {
            let mut partner = Self::connect(control);
            partner.say(&Self::hello(&[1]));
            let count = partner.hear()["sockets"]["count"].as_u64();
            begun = count.map(|count| (partner, count as usize));
            begun.is_some()
        });
        let (mut partner, count) = begun.unwrap();
        let mut have = 0;
        while have < count {
            have += partner.hear()["batch"]["sockets"].as_array().expect("no batch").len();
        }
        partner
    }

    pub fn hello(protocols: &[u32]) -> Value {
        json!({ "hello": { "protocols": protocols, "build": "0.0.0", "pid": 1, "unknown": true } })
    }

    pub fn say(&mut self, word: &Value) {
        let text = word.to_string();
        let frame = [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let _ = self.0.write_all(&frame);
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The next word; null at the end. Sockets that come along are closed.
    pub fn hear(&mut self) -> Value {
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut have = 0;
        while have < 4 {
            let mut buffer = [IoSliceMut::new(&mut length[have..])];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(self.0.as_fd(), &mut buffer, &mut control, flags) {
                Ok(read) if read.bytes > 0 => have += read.bytes,
                _ => return Value::Null,
            }
        }
        control.drain().for_each(drop);
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        match self.0.read_exact(&mut text) {
            Ok(()) => serde_json::from_slice(&text).unwrap(),
            Err(_) => Value::Null,
        }
    }

    /// Passes over words until this one.
    pub fn hear_until(&mut self, word: &str) {
        loop {
            let heard = self.hear();
            if heard.get(word).is_some() || heard == json!(word) {
                return;
            }
            assert_ne!(heard, Value::Null, "the conversation ended before `{word}`");
        }
    }
}

/// Starts this very program as a process that serves sockets at `control`, and dies after it has said or
/// heard the word `last`.
pub fn start_dying(control: &Path, sockets: &[(&str, SocketAddr, bool)], last: &str) -> Killed {
    let sockets: Vec<Value> = sockets
        .iter()
        .map(|(name, address, admin)| json!({ "name": name, "address": address, "admin": admin }))
        .collect();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "upgrade::a_serving_process_that_dies", "--ignored", "--nocapture"])
        .env("DYING_CONTROL", control)
        .env("DYING_SOCKETS", Value::from(sockets).to_string())
        .env("DYING_LAST", last)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the process that dies listens", || control.exists());
    Killed(child)
}

/// A process that is killed when its test is over.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this very program as a process that joins the one at `control`, and dies after it has said or
/// heard the word `last`.
pub fn start_dying_new(control: &Path, last: &str) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "upgrade::a_new_process_that_dies", "--ignored", "--nocapture"])
        .env("DYING_CONTROL", control)
        .env("DYING_LAST", last)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Killed(child)
}

pub fn die_while_joining() {
    let (Ok(control), Ok(last)) = (std::env::var("DYING_CONTROL"), std::env::var("DYING_LAST")) else {
        return;
    };
    let die_after = |word: &str| {
        if word == last {
            // As a process that is killed: nothing of it runs any more.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
    };
    if last == "hello" {
        let mut partner = Partner::connect(Path::new(&control));
        partner.say(&Partner::hello(&[1]));
        die_after("hello");
    }
    let mut partner = Partner::joined(Path::new(&control));
    die_after("sockets");
    partner.say(&json!("ready"));
    die_after("ready");
    partner.hear_until("go");
    die_after("go");
    partner.say(&json!("accepting"));
    die_after("accepting");
    partner.hear_until("done");
    die_after("done");
}

pub fn die_while_serving() {
    let (Ok(control), Ok(sockets), Ok(last)) =
        (std::env::var("DYING_CONTROL"), std::env::var("DYING_SOCKETS"), std::env::var("DYING_LAST"))
    else {
        return;
    };
    let wanted: Vec<Value> = serde_json::from_str(&sockets).unwrap();
    let bound: Vec<TcpListener> =
        wanted.iter().map(|socket| TcpListener::bind(socket["address"].as_str().unwrap()).unwrap()).collect();
    // Whole at once, or the other test would find it half made.
    let beside = format!("{control}.dying");
    let listener = UnixListener::bind(&beside).unwrap();
    std::fs::rename(&beside, &control).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut partner = Partner(stream);
    partner.hear_until("hello");
    partner.say(&json!({ "sockets": { "protocol": 1, "pid": std::process::id(), "count": bound.len() } }));
    let fds: Vec<BorrowedFd<'_>> = bound.iter().map(|socket| socket.as_fd()).collect();
    give(&partner.0, &json!({ "batch": { "sockets": wanted } }), &fds);
    if last == "sockets" {
        std::process::abort();
    }
    partner.hear_until("ready");
    if last == "ready" {
        std::process::abort();
    }
    partner.say(&json!({ "go": { "state": [{ "kind": "of tomorrow", "version": 9, "data": [1] }] } }));
    if last == "go" {
        std::process::abort();
    }
    partner.hear_until("accepting");
    std::process::abort();
}

fn give(stream: &UnixStream, word: &Value, fds: &[BorrowedFd<'_>]) {
    let text = word.to_string();
    let frame = [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&frame)], &mut control, SendFlags::empty());
    assert_eq!(sent.unwrap(), frame.len());
}
