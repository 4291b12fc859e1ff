//! Which content coding a client gets (RFC 9110, sections 8.4.1 and 12.5.3).

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A content coding that the gateway can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    #[serde(rename = "br")]
    Brotli,
    /// RFC 8878, with the window of RFC 9659.
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Brotli, Self::Zstd];

    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of this name, in any case; `x-gzip` is gzip (RFC 9110 section 8.4.1.3).
    pub fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| is(coding.name()))
    }
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This coding. `identity` tells whether the content as it is would do as well.
    Coded {
        /// The coding.
        coding: Coding,
        /// False if the client refuses content that is not coded.
        identity: bool,
    },
    /// The content as it is: the client asks for it, says nothing, or accepts nothing that we have.
    Identity,
}

/// A weight in thousandths (RFC 9110 section 12.4.2); zero means "not acceptable".
type Weight = u16;

/// The weights that a client gave. `None`: it does not name this coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    gzip: Option<Weight>,
    brotli: Option<Weight>,
    zstd: Option<Weight>,
    identity: Option<Weight>,
    any: Option<Weight>,
}

impl AcceptEncoding {
    /// Reads the lines of `Accept-Encoding`. The first mention of a coding counts; one whose weight
    /// cannot be read is not acceptable, and neither is it an error: whoever writes it so cannot be
    /// relied on to decode.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut accepted = Self::default();
        for element in lines.into_iter().flat_map(|line| line.split(|c| *c == b',')) {
            let mut parts = element.splitn(2, |c| *c == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let given = parts.next().map_or(1000, |parameter| weight(parameter).unwrap_or(0));
            if let Some(slot) = accepted.slot(name) {
                slot.get_or_insert(given);
            }
        }
        accepted
    }

    /// The coding that the client likes best of those in `offered`, which stand in our order of
    /// preference: it decides between equals. `identity` wins only if the client names it with a
    /// higher weight.
    pub fn choose(&self, offered: &[Coding]) -> Choice {
        let mut best: Option<(Coding, Weight)> = None;
        for coding in offered {
            let given = self.weight(*coding);
            if given > best.map_or(0, |(_, weight)| weight) {
                best = Some((*coding, given));
            }
        }
        let identity = self.identity.or(self.any);
        match best {
            Some((_, weight)) if self.identity.is_some_and(|identity| identity > weight) => Choice::Identity,
            Some((coding, _)) => Choice::Coded { coding, identity: identity != Some(0) },
            None => Choice::Identity,
        }
    }

    fn weight(&self, coding: Coding) -> Weight {
        let own = match coding {
            Coding::Gzip => self.gzip,
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
        };
        own.or(self.any).unwrap_or(0)
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<Weight>> {
        match Coding::named(name) {
            Some(Coding::Gzip) => Some(&mut self.gzip),
            Some(Coding::Brotli) => Some(&mut self.brotli),
            Some(Coding::Zstd) => Some(&mut self.zstd),
            None if name == b"*" => Some(&mut self.any),
            None if name.eq_ignore_ascii_case(b"identity") => Some(&mut self.identity),
            None => None,
        }
    }
}

/// `q=0.5`: a zero with up to three decimals, or a one with zeros (RFC 9110 section 12.4.2).
fn weight(parameter: &[u8]) -> Option<Weight> {
    let parameter = parameter.trim_ascii();
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, decimals) = match value {
        [whole] => (*whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (*whole, decimals),
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let scale = [100, 10, 1];
    let thousandths: Weight =
        decimals.iter().zip(scale).map(|(digit, scale)| Weight::from(digit - b'0') * scale).sum();
    let weight = Weight::from(whole - b'0') * 1000 + thousandths;
    (weight <= 1000).then_some(weight)
}
