//! The name of a request in logs, here and upstream.

use super::random;
use super::trace::HexId;
use http::HeaderValue;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest id that is taken over.
const MAX_LENGTH: usize = 128;

/// A request's id: made here, or taken over from a caller that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Text);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Made([u8; 36]),
    TakenOver(Box<str>),
}

impl RequestId {
    /// A new UUID of version 7 (RFC 9562 section 5.7): milliseconds of `now`, then 74 random bits,
    /// so that ids sort by time.
    pub fn new(now: SystemTime) -> Self {
        let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let version = 0x7 << 76 | u128::from(random::next_u64() >> 52) << 64;
        let variant = 0b10 << 62 | u128::from(random::next_u64() >> 2);
        let digits = HexId::<32>::new(millis << 80 | version | variant);
        let mut text = [b'-'; 36];
        for (to, from) in [(0..8, 0..8), (9..13, 8..12), (14..18, 12..16), (19..23, 16..20), (24..36, 20..32)]
        {
            text[to].copy_from_slice(&digits.as_bytes()[from]);
        }
        Self(Text::Made(text))
    }

    /// Takes over an id of 1 to 128 letters, digits and `-_.:+=/@~`; another one is not taken over.
    pub fn take_over(value: &[u8]) -> Option<Self> {
        let safe = |c: &u8| c.is_ascii_alphanumeric() || b"-_.:+=/@~".contains(c);
        if value.is_empty() || value.len() > MAX_LENGTH || !value.iter().all(safe) {
            return None;
        }
        Some(Self(Text::TakenOver(str::from_utf8(value).ok()?.into())))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Made(text) => str::from_utf8(text).unwrap_or_default(),
            Text::TakenOver(text) => text,
        }
    }

    /// The same as bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Made(text) => text,
            Text::TakenOver(text) => text.as_bytes(),
        }
    }

    /// The id as the value of `x-request-id`.
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Duration;

    #[test]
    fn a_new_id_is_a_uuid_of_version_7() {
        let now = UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab);
        for _ in 0..100 {
            let id = RequestId::new(now);
            let text = id.as_str();
            let dashes: Vec<_> = text.match_indices('-').map(|(place, _)| place).collect();
            assert_eq!((text.len(), dashes.as_slice()), (36, [8, 13, 18, 23].as_slice()), "{text}");
            assert!(text.starts_with("01234567-89ab-7"), "{text}");
            assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
            assert_eq!(id.header_value().to_str().unwrap(), text);
            assert_eq!(id.as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn ids_of_one_instant_differ_and_sort_by_time() {
        let ids: HashSet<_> = (0..1000).map(|_| RequestId::new(UNIX_EPOCH).as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        let (early, late) =
            (RequestId::new(UNIX_EPOCH), RequestId::new(UNIX_EPOCH + Duration::from_millis(1)));
        assert!(early.as_str() < late.as_str());
    }

    #[test]
    fn only_safe_ids_are_taken_over() {
        for good in ["a", "0HMV:00000001", "Root=1-67891233-abcdef012345678912345678", &"x".repeat(128)] {
            assert_eq!(RequestId::take_over(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\"b", "a\nb", "é", "a,b", "<b>", &"x".repeat(129)] {
            assert_eq!(RequestId::take_over(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
