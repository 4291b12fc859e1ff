//! Segments of paths, as tables of many routes keep them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// How much fits into the place of a [`Text`]: as much as makes it three words.
const SHORT: usize = 22;

/// A segment of a path. A short one, as nearly all are, lies in its place, so that a table of many compares it without
/// another look at memory that is in no cache.
pub(super) enum Text {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Text {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short(text.len() as u8, bytes)
            }
            None => Self::Long(text.as_bytes().into()),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Text {}

/// As its bytes, by which a table is asked.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn short_and_long_ones_are_found() {
        let texts: Vec<String> = (0..60).map(|length| "x".repeat(length)).collect();
        let table: HashMap<Text, usize> =
            texts.iter().enumerate().map(|(at, text)| (Text::from(text.as_str()), at)).collect();
        assert_eq!(table.len(), texts.len());
        for (at, text) in texts.iter().enumerate() {
            assert_eq!(table.get(text.as_bytes()), Some(&at));
            assert_eq!(Text::from(text.as_str()).bytes(), text.as_bytes());
        }
        assert_eq!(table.get("y".as_bytes()), None);
        assert_eq!(size_of::<Text>(), 24);
    }
}
