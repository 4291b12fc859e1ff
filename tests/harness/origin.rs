use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Where an origin waits until it may go on.
#[derive(Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    /// From now on nobody waits.
    pub fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_while(open, |open| !*open).unwrap());
    }
}

/// A request as an origin got it, to the byte.
#[derive(Clone, Debug)]
pub struct Received {
    /// The request line, without its line break.
    pub line: String,
    /// The header lines, without their line breaks, in order.
    pub fields: Vec<String>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Received {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).into_iter().next()
    }

    /// All values of a field, in order.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let split = self.fields.iter().filter_map(|line| line.split_once(':'));
        split.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }
}

/// An HTTP/1.1 server on a real socket that remembers what it got and answers, byte for byte, what
/// a test tells it to. Ends when it is dropped.
pub struct Origin {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A whole answer with a body and its length.
pub fn answer(status: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Origin {
    /// Answers everything with 200 and this body.
    pub fn saying(body: &'static str) -> Self {
        Self::start(move |_, stream| stream.write_all(&answer("200 OK", "", body)).is_ok())
    }

    /// Answers with what `respond` writes for each request; false closes the connection.
    pub fn start(respond: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        Self::raw(move |stream, seen| serve(stream, seen, &respond))
    }

    /// Leaves each connection to `serve`, which notes itself what it got, if anything.
    pub fn raw(serve: impl Fn(TcpStream, &Mutex<Vec<Received>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let ended = Arc::new(AtomicBool::new(false));
        let serve = Arc::new(serve);
        let (seen, count, end) = (received.clone(), connections.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (seen, serve) = (seen.clone(), serve.clone());
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { address, received, connections, ended, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it got so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The last thing that it got.
    pub fn last(&self) -> Received {
        self.received.lock().unwrap().last().cloned().expect("the origin got nothing")
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Received>>,
    respond: &dyn Fn(&Received, &mut TcpStream) -> bool,
) {
    let Ok(clone) = stream.try_clone() else { return };
    let mut reader = BufReader::new(clone);
    while let Some(request) = read_request(&mut reader, &mut stream) {
        seen.lock().unwrap().push(request.clone());
        if !respond(&request, &mut stream) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> Option<Received> {
    let line = read_line(reader)?;
    let mut fields = Vec::new();
    loop {
        let field = read_line(reader)?;
        if field.is_empty() {
            break;
        }
        fields.push(field);
    }
    let mut request = Received { line, fields, body: Vec::new() };
    if request.field("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.field("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(read_line(reader)?.split(';').next()?.trim(), 16).ok()?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            request.body.extend(chunk);
            read_line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = request.field("content-length").and_then(|length| length.parse().ok()) {
        request.body = vec![0; length];
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).ok()? == 0 {
        return None;
    }
    Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}
