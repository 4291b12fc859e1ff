use super::Compress;
use super::media_type::Pattern;
use crate::message::negotiate::Coding;
use crate::values::{ByteSize, ConfigPath, Finding, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers are compressed for clients that accept it: by their `accept-encoding` with its weights, and
/// between equals by the order of `codings`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompressConfig {
    /// The codings that may be used, the preferred one first. Default: zstd, br, gzip.
    #[schemars(length(min = 1, max = 3))]
    pub codings: Vec<Coding>,
    /// How hard each coding tries.
    pub levels: Levels,
    /// Answers that say that they are smaller stay as they are. Default 1KiB.
    pub min_size: ByteSize,
    /// Media types that are worth it: `text/html`, `text/*` or `application/*+json`. `text/event-stream`
    /// has to be listed by its full name. Default: text, JSON, XML, JavaScript, WebAssembly, SVG and
    /// uncompressed fonts.
    #[schemars(length(min = 1))]
    pub types: Vec<String>,
}

/// How hard each coding tries: higher is smaller and slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    /// 1 to 9. Default 4.
    #[schemars(range(min = 1, max = 9))]
    pub gzip: u8,
    /// 0 to 9. Default 4.
    #[schemars(range(min = 0, max = 9))]
    pub br: u8,
    /// 1 to 12. Default 3.
    #[schemars(range(min = 1, max = 12))]
    pub zstd: u8,
}

impl Default for Levels {
    fn default() -> Self {
        Self { gzip: 4, br: 4, zstd: 3 }
    }
}

impl Levels {
    pub(super) const fn of(&self, coding: Coding) -> u8 {
        match coding {
            Coding::Gzip => self.gzip,
            Coding::Brotli => self.br,
            Coding::Zstd => self.zstd,
        }
    }
}

const TYPES: [&str; 11] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/x-ndjson",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "image/svg+xml",
    "font/otf",
    "font/ttf",
];

impl Default for CompressConfig {
    fn default() -> Self {
        Self {
            codings: vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
            levels: Levels::default(),
            min_size: ByteSize::kib(1),
            types: TYPES.map(String::from).to_vec(),
        }
    }
}

impl CompressConfig {
    pub(super) fn compile(&self) -> Result<Compress, Vec<Finding>> {
        let root = ConfigPath::root();
        let mut found = Vec::new();
        for (at, coding) in self.codings.iter().enumerate() {
            if self.codings[..at].contains(coding) {
                let problem = Problem::new(format!("`{}` is listed twice", coding.name()));
                found.push(Finding::error(root.key("codings").index(at), problem));
            }
        }
        for (key, is_empty) in [("codings", self.codings.is_empty()), ("types", self.types.is_empty())] {
            if is_empty {
                let problem = Problem::new("the list is empty, so that nothing would be compressed");
                found.push(Finding::error(root.key(key), problem.remedy("leave it out for the default")));
            }
        }
        let levels = [
            ("gzip", self.levels.gzip, 1, 9),
            ("br", self.levels.br, 0, 9),
            ("zstd", self.levels.zstd, 1, 12),
        ];
        for (key, level, least, most) in levels {
            if !(least..=most).contains(&level) {
                let problem = Problem::new(format!("{level} is not a level from {least} to {most}"));
                found.push(Finding::error(root.key("levels").key(key), problem));
            }
        }
        let mut types = Vec::new();
        for (at, text) in self.types.iter().enumerate() {
            match Pattern::parse(text) {
                Ok(pattern) => types.push(pattern),
                Err(problem) => found.push(Finding::error(root.key("types").index(at), problem)),
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        Ok(Compress {
            codings: self.codings.clone().into(),
            levels: self.levels,
            min_size: self.min_size.bytes(),
            types: types.into(),
        })
    }
}
