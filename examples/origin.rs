//! A small, fast HTTP/1.1 origin for load tests: `/bytes/N` answers with N bytes (at most 16 MiB),
//! every other path with two. It is no web server: it reads a head up to the empty line, drops a
//! body of a declared length, and keeps the connection.
//!
//! ```text
//! origin LISTEN
//! origin 127.0.0.1:9000
//! ```

use std::error::Error;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LARGEST_HEAD: usize = 64 * 1024;
const LARGEST_BODY: usize = 16 * 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: origin LISTEN")?;
    let listener = TcpListener::bind(&address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream));
    }
}

/// Answers the requests of one connection; an error ends that connection alone.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut input = Vec::with_capacity(4096);
    let mut answers = Vec::new();
    loop {
        answers.clear();
        while let Some(end) = find(&input, b"\r\n\r\n") {
            let head_end = end + 4;
            let Some(request) = Request::parse(&input[..head_end]) else {
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            };
            let buffered = request.content_length.min(input.len() - head_end);
            input.drain(..head_end + buffered);
            discard(&mut stream, request.content_length - buffered).await?;
            request.answer(&mut answers);
        }
        if !answers.is_empty() {
            stream.write_all(&answers).await?;
        }
        if input.len() > LARGEST_HEAD || stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

struct Request {
    answer_bytes: usize,
    content_length: usize,
    head_only: bool,
}

impl Request {
    fn parse(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let answer_bytes = match target.strip_prefix("/bytes/") {
            Some(number) => number.parse().ok().filter(|bytes| *bytes <= LARGEST_BODY)?,
            None => 2,
        };
        let content_length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(Some(0), |(_, value)| value.trim().parse().ok())?;
        Some(Self { answer_bytes, content_length, head_only: method == "HEAD" })
    }

    fn answer(&self, out: &mut Vec<u8>) {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            self.answer_bytes
        );
        out.extend_from_slice(head.as_bytes());
        if !self.head_only {
            out.resize(out.len() + self.answer_bytes, b'x');
        }
    }
}

async fn discard(stream: &mut TcpStream, mut left: usize) -> io::Result<()> {
    let mut scratch = [0; 4096];
    while left > 0 {
        let size = left.min(scratch.len());
        match stream.read(&mut scratch[..size]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => left -= read,
        }
    }
    Ok(())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
