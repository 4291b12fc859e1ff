use crate::message::negotiate::Coding;
use crate::policy::shared::coding::Encoder;
use bytes::Bytes;
use std::io;

/// One answer on its way into its coding.
#[derive(Debug)]
pub struct Coder {
    coding: Coding,
    level: u8,
    /// Whether each piece goes out at once.
    live: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing has come yet. A HEAD ends here, and so costs nothing.
    Fresh,
    Running(Box<Encoder>),
    Ended,
}

impl Coder {
    /// A coder that flushes each piece if `live`.
    pub fn new(coding: Coding, level: u8, live: bool) -> Self {
        Self { coding, level, live, state: State::Fresh }
    }

    /// Takes a piece and gives what comes out. After the end nothing does.
    ///
    /// # Errors
    /// The library has no memory.
    pub fn push(&mut self, piece: &[u8], end: bool) -> io::Result<Bytes> {
        if piece.is_empty() && !end {
            return Ok(Bytes::new());
        }
        if matches!(self.state, State::Fresh) {
            self.state = State::Running(Box::new(Encoder::new(self.coding, self.level)?));
        }
        let State::Running(encoder) = &mut self.state else { return Ok(Bytes::new()) };
        if !end {
            return encoder.push(piece, self.live);
        }
        let last = encoder.finish(piece);
        self.state = State::Ended;
        last
    }
}
