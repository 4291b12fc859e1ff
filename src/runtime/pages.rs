//! Files that are answered with instead of our own words.

use crate::values::{ConfigPath, Finding, Problem};
use bytes::Bytes;
use http::HeaderValue;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest error page, in bytes.
const LARGEST: u64 = 1 << 20;

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// By the file's ending.
    pub content_type: HeaderValue,
    /// The file.
    pub body: Bytes,
}

/// Pages by status.
#[derive(Clone, Debug, Default)]
pub struct Pages(Vec<(u16, Page)>);

impl Pages {
    /// The page for a status.
    pub fn get(&self, status: u16) -> Option<&Page> {
        self.0.iter().find(|(known, _)| *known == status).map(|(_, page)| page)
    }
}

/// Reads each file once, however many routes name it.
#[derive(Debug, Default)]
pub struct Reader {
    read: HashMap<PathBuf, Result<Page, Problem>>,
    none: Arc<Pages>,
}

impl Reader {
    /// The pages that a section names; what cannot be read is a finding under `path`.
    pub fn pages(
        &mut self,
        config: &BTreeMap<u16, PathBuf>,
        path: impl FnOnce() -> ConfigPath,
        found: &mut Vec<Finding>,
    ) -> Arc<Pages> {
        if config.is_empty() {
            return Arc::clone(&self.none);
        }
        let path = path();
        let mut pages = Pages::default();
        for (status, file) in config {
            match self.read.entry(file.clone()).or_insert_with(|| read(file)) {
                Ok(page) => pages.0.push((*status, page.clone())),
                Err(problem) => found.push(Finding::error(path.key(status), problem.clone())),
            }
        }
        Arc::new(pages)
    }
}

fn read(file: &Path) -> Result<Page, Problem> {
    let shown = file.display();
    let cannot = |error: std::io::Error| Problem::new(format!("cannot read `{shown}`: {error}"));
    if std::fs::metadata(file).map_err(cannot)?.len() > LARGEST {
        return Err(
            Problem::new(format!("`{shown}` is larger than 1MiB")).remedy("error pages are kept in memory")
        );
    }
    let body = std::fs::read(file).map_err(cannot)?;
    let content_type = match file.extension().and_then(|ending| ending.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        _ => "text/plain; charset=utf-8",
    };
    Ok(Page { content_type: HeaderValue::from_static(content_type), body: body.into() })
}
