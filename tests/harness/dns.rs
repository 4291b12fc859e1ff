use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const A: u16 = 1;
const SRV: u16 = 33;

/// The records of a name and a type: times to live and data.
type Records = HashMap<(String, u16), Vec<(u32, Vec<u8>)>>;

/// A name server on loopback that says what a test tells it to. Ends when it is dropped.
pub struct Dns {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    records: Mutex<Records>,
    failing: AtomicBool,
    asked: AtomicUsize,
    ended: AtomicBool,
}

impl Dns {
    /// A server that knows nothing.
    pub fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let state = Arc::<State>::default();
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                shared.asked.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(&shared.answer(&packet[..length]), peer);
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says that a name has these addresses.
    pub fn addresses(&self, name: &str, ttl: u32, addresses: &[Ipv4Addr]) {
        let data = addresses.iter().map(|address| (ttl, address.octets().to_vec())).collect();
        self.state.records.lock().unwrap().insert((name.to_owned(), A), data);
    }

    /// Says that a name has these services: priority, weight, port and target.
    pub fn services(&self, name: &str, ttl: u32, services: &[(u16, u16, u16, &str)]) {
        let data = services.iter().map(|(priority, weight, port, target)| {
            let mut data = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
            for label in target.split('.') {
                data.push(label.len() as u8);
                data.extend_from_slice(label.as_bytes());
            }
            data.push(0);
            (ttl, data)
        });
        self.state.records.lock().unwrap().insert((name.to_owned(), SRV), data.collect());
    }

    /// Fails every question from now on, or no longer.
    pub fn fail(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::SeqCst);
    }

    /// How many questions it got.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[0], self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    /// RFC 1035 section 4.1: the header, the question again, and the records by pointers to its name.
    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let (mut at, mut labels) = (12, Vec::new());
        while question[at] != 0 {
            let length = usize::from(question[at]);
            let label = String::from_utf8_lossy(&question[at + 1..=at + length]);
            labels.push(label.to_ascii_lowercase());
            at += length + 1;
        }
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let records = self.records.lock().unwrap();
        let found = records.get(&(labels.join("."), kind)).cloned().unwrap_or_default();
        let code = match (self.failing.load(Ordering::SeqCst), found.is_empty()) {
            (true, _) => 2,
            (false, true) if !records.keys().any(|(name, _)| *name == labels.join(".")) => 3,
            _ => 0,
        };
        let found = if code == 0 { found } else { Vec::new() };
        let mut answer = question[..2].to_vec();
        answer.extend_from_slice(&[0x85, 0x80 | code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0]);
        answer.extend_from_slice(&question[12..at + 5]);
        for (ttl, data) in found {
            answer.extend_from_slice(&[0xc0, 12]);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1]);
            answer.extend_from_slice(&ttl.to_be_bytes());
            answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
            answer.extend_from_slice(&data);
        }
        answer
    }
}
