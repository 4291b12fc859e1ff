use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;

/// The flag of a frame that holds trailers.
const TRAILERS: u8 = 0x80;
/// Characters of base64 that are decoded together.
const GROUP: usize = 4;

/// A call of gRPC-Web on its way, in both directions.
#[derive(Debug)]
pub struct Call {
    asks_in_text: bool,
    answers_in_text: bool,
    /// Whether the answer is gRPC; what is not passes as it is.
    translates: bool,
    /// Characters of the request that wait for the rest of their group.
    rest: Vec<u8>,
    /// The last frame of the answer.
    trailers: Option<Bytes>,
}

/// A body that is not base64.
#[derive(Debug, PartialEq, Eq)]
pub struct NotBase64;

impl Call {
    pub(super) fn new(asks_in_text: bool, answers_in_text: bool) -> Self {
        Self { asks_in_text, answers_in_text, translates: false, rest: Vec::new(), trailers: None }
    }

    pub(super) fn answers_text(&self) -> bool {
        self.answers_in_text
    }

    pub(super) fn translate(&mut self, translates: bool) {
        self.translates = translates;
    }

    /// The request's body begins anew: it is sent once more.
    pub fn restart(&mut self) {
        self.rest.clear();
    }

    /// A piece of the request's body, as the upstream gets it.
    ///
    /// # Errors
    /// It is said to be base64 and is not.
    pub fn request(&mut self, piece: &mut Option<Bytes>, end: bool) -> Result<(), NotBase64> {
        if !self.asks_in_text {
            return Ok(());
        }
        let came = piece.take().unwrap_or_default();
        let mut decoded = BytesMut::with_capacity(came.len() / GROUP * 3 + 3);
        self.rest.extend_from_slice(&came);
        let whole = self.rest.len() / GROUP * GROUP;
        // Whoever flushes pads, so that there may be an end in the middle.
        for part in split_after_padding(&self.rest[..whole]) {
            decoded.extend_from_slice(&STANDARD.decode(part).map_err(|_| NotBase64)?);
        }
        self.rest.drain(..whole);
        if end && !self.rest.is_empty() {
            return Err(NotBase64);
        }
        // Never `None` before the end: Pingora takes that for the end.
        *piece = (!end || !decoded.is_empty()).then(|| decoded.freeze());
        Ok(())
    }

    /// The answer ends with these.
    pub(super) fn end_with(&mut self, trailers: &HeaderMap) {
        let mut block = BytesMut::new();
        for (name, value) in trailers {
            block.put_slice(name.as_str().as_bytes());
            block.put_slice(b": ");
            block.put_slice(value.as_bytes());
            block.put_slice(b"\r\n");
        }
        let mut frame = BytesMut::with_capacity(5 + block.len());
        frame.put_u8(TRAILERS);
        // Trailers are bounded far below by HTTP/2's header list.
        frame.put_u32(u32::try_from(block.len()).unwrap_or(u32::MAX));
        frame.put(block);
        self.trailers = Some(frame.freeze());
    }

    /// A piece of the answer's body, as the client gets it.
    pub(super) fn answer(&mut self, piece: Option<Bytes>, end: bool) -> Option<Bytes> {
        if !self.translates {
            return piece;
        }
        let last = if end { self.trailers.take() } else { None };
        let pieces = [piece, last].into_iter().flatten().filter(|piece| !piece.is_empty());
        let mut all: Vec<Bytes> = pieces.collect();
        if self.answers_in_text {
            // Each piece is padded on its own, so that none waits for the next one.
            all = all.into_iter().map(|piece| Bytes::from(STANDARD.encode(piece))).collect();
        }
        match all.len() {
            0 => None,
            1 => all.pop(),
            _ => Some(Bytes::from(all.concat())),
        }
    }
}

/// Whole groups, cut behind each group that is padded.
fn split_after_padding(groups: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = groups;
    std::iter::from_fn(move || {
        let end = left.chunks(GROUP).position(|group| group.ends_with(b"="));
        let (part, rest) = left.split_at(end.map_or(left.len(), |at| (at + 1) * GROUP));
        left = rest;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<u8>, NotBase64> {
        let mut call = Call::new(true, true);
        let mut all = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            let mut piece = Some(Bytes::copy_from_slice(piece));
            let end = at + 1 == pieces.len();
            call.request(&mut piece, end)?;
            assert!(end || piece.is_some(), "nothing says that it is the end");
            all.extend(piece.unwrap_or_default());
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn text_is_decoded_however_it_comes(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5),
            cuts in proptest::collection::vec(1usize..9, 1..9),
        ) {
            let text: Vec<u8> = messages.iter().flat_map(|message| STANDARD.encode(message).into_bytes()).collect();
            let mut pieces: Vec<&[u8]> = Vec::new();
            let (mut left, mut cut) = (&text[..], 0);
            while !left.is_empty() {
                let (piece, rest) = left.split_at(cuts[cut % cuts.len()].min(left.len()));
                pieces.push(piece);
                (left, cut) = (rest, cut + 1);
            }
            pieces.push(b"");
            prop_assert_eq!(decode(&pieces).unwrap(), messages.concat());
        }

        #[test]
        fn answers_are_encoded_piece_by_piece(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let mut call = Call::new(true, true);
            call.translate(true);
            let mut got = Vec::new();
            for piece in &pieces {
                let coded = call.answer(Some(Bytes::copy_from_slice(piece)), false);
                got.extend(STANDARD.decode(coded.unwrap_or_default()).unwrap());
            }
            prop_assert_eq!(got, pieces.concat());
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["AAA", "A", "AA=A", "####", "AAAA*", "=AAA"] {
            assert_eq!(decode(&[text.as_bytes()]), Err(NotBase64), "{text}");
        }
        assert_eq!(decode(&[b""]), Ok(Vec::new()));
    }

    #[test]
    fn trailers_are_the_last_frame() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-a", HeaderValue::from_static("b c"));
        let mut call = Call::new(false, false);
        call.translate(true);
        assert_eq!(call.answer(Some(Bytes::from_static(b"m")), false).as_deref(), Some(&b"m"[..]));
        call.end_with(&trailers);
        let last = call.answer(None, true).unwrap();
        assert_eq!(&last[..], b"\x80\0\0\0\x1agrpc-status: 0\r\nx-a: b c\r\n");
        assert_eq!(call.answer(None, true), None, "once");
    }

    #[test]
    fn a_request_that_is_sent_again_begins_anew() {
        let mut call = Call::new(true, false);
        call.request(&mut Some(Bytes::from_static(b"AAA")), false).unwrap();
        call.restart();
        let mut piece = Some(Bytes::from_static(b"AAAA"));
        call.request(&mut piece, true).unwrap();
        assert_eq!(piece.as_deref(), Some(&[0, 0, 0][..]));
    }
}
