use super::{Gateway, PATIENCE};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// An answer as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Zero if the connection was closed without one.
    pub status: u16,
    /// The header lines, in order.
    pub fields: Vec<String>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// True if the body ended before it was whole.
    pub cut: bool,
    /// HTTP/2: the lines of the trailers.
    pub trailers: Vec<String>,
    /// HTTP/2: true if the head ended the stream.
    pub headers_only: bool,
}

impl Answer {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).into_iter().next()
    }

    /// All values of a field, in order.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let split = self.fields.iter().filter_map(|line| line.split_once(':'));
        split.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        let split = self.trailers.iter().filter_map(|line| line.split_once(": "));
        split.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `code` of a refusal; empty for an answer of no body, such as the parser's.
    pub fn code(&self) -> String {
        if self.body.is_empty() {
            return String::new();
        }
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// True if the answer says that the connection ends with it.
    pub fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// True if a gateway takes no connection here: it is reset while the client connects, or at once after.
pub fn turned_away(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return true };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// A connection that says exactly what a test tells it to.
pub struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Client {
    /// Connects.
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.into()
    }

    /// Sends bytes. A gateway that has closed the connection already is no failure of the test's.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends a request and reads its answer.
    pub fn send(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let is_head = request.as_ref().starts_with(b"HEAD ");
        self.write(request);
        self.read(is_head)
    }

    /// Sends a GET, which keeps the connection, and reads its answer.
    pub fn get(&mut self, host: &str, target: &str, fields: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n"))
    }

    /// Reads an answer; interim ones are passed over.
    pub fn read(&mut self, is_head: bool) -> Answer {
        loop {
            let answer = self.read_one(is_head);
            if !(100..200).contains(&answer.status) || answer.status == 101 {
                return answer;
            }
        }
    }

    /// Reads the next answer, an interim one too.
    pub fn read_one(&mut self, is_head: bool) -> Answer {
        let mut answer = Answer::default();
        let Some(line) = self.line() else { return answer };
        answer.status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        while let Some(field) = self.line().filter(|field| !field.is_empty()) {
            answer.fields.push(field);
        }
        if !is_head && !matches!(answer.status, 100..=199 | 204 | 304) {
            self.body(&mut answer);
        }
        answer
    }

    /// Reads an answer while the body goes out byte by byte, and leaves.
    pub fn read_while_dripping(&mut self) -> Answer {
        std::thread::scope(|scope| {
            let mut writer = self.another();
            let dripping = scope.spawn(move || {
                while writer.try_write("a") {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                }
            });
            let answer = self.read(false);
            self.close();
            dripping.join().unwrap();
            answer
        })
    }

    /// True if the gateway has closed the connection; waits for what it does.
    pub fn is_closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::TimedOut,
        }
    }

    /// Waits until the gateway has sent something that was not read.
    pub fn wait_for_bytes(&mut self) {
        let _ = self.reader.fill_buf();
    }

    /// Sends bytes; false if the connection is gone.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The same connection, for another thread to write to.
    pub fn another(&self) -> Self {
        let stream = self.stream.try_clone().unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// Leaves, in both directions.
    pub fn close(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Says that nothing more will come, and still reads.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Breaks off: the other side sees a reset.
    pub fn abort(self) {
        abort(&self.stream);
    }

    /// Reads what comes next, exactly this much; None if the connection ends before.
    pub fn try_read_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    fn body(&mut self, answer: &mut Answer) {
        if answer.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = self
                    .line()
                    .and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
                let Some(size) = size else {
                    answer.cut = true;
                    return;
                };
                let mut chunk = vec![0; size + 2];
                if self.reader.read_exact(&mut chunk).is_err() {
                    answer.cut = true;
                    return;
                }
                answer.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    return;
                }
            }
        }
        match answer.field("content-length").and_then(|length| length.parse::<u64>().ok()) {
            Some(length) => {
                let _ = self.reader.by_ref().take(length).read_to_end(&mut answer.body);
                answer.cut = (answer.body.len() as u64) < length;
            }
            None => drop(self.reader.read_to_end(&mut answer.body)),
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
        }
    }
}

/// Makes the end of a connection a reset, with which nothing that is still under way arrives.
pub fn abort(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }
}

/// One request on a connection of its own.
pub fn send(address: SocketAddr, request: &str) -> Answer {
    Client::new(address).send(request)
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Answer {
    send(address, &format!("GET {target} HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n"))
}

/// What so many requests for a target get, one after the other on one connection.
pub fn statuses(gateway: &Gateway, target: &str, count: usize) -> Vec<u16> {
    let mut client = Client::new(gateway.web());
    (0..count).map(|_| client.get("a", target, "").status).collect()
}
