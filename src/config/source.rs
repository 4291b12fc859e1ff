//! Files and folders: what is read, how much of it, and where in it something stands.

use super::error::{ConfigError, ConfigErrors, Snippet, Spot};
use super::model::Document;
use super::read::item;
use super::secrets::{Secrets, hide_in_urls, in_urls};
use super::tree::{self, Fault, Node, Place};
use crate::values::{ConfigPath, Finding, Name, Problem, Severity};
use std::cell::OnceCell;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read.
const LARGEST: u64 = 32 << 20;
/// The most files of a folder that are read.
const MOST_FILES: usize = 10_000;

/// The files that a configuration was read from, for telling where something stands in them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What was asked for: a file or a folder.
    pub(super) root: PathBuf,
    pub(super) files: Vec<Source>,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    pub text: Arc<str>,
    /// What was read of it.
    pub document: Arc<Document>,
}

impl Sources {
    /// The files, in the order in which they were read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|source| source.path.as_path())
    }
}

/// The files that `path` stands for: itself, or the YAML files of the folder, by name.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>, Box<ConfigError>> {
    let metadata = fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| cannot_read(path, &error))? {
        let file = entry.map_err(|error| cannot_read(path, &error))?.path();
        let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = file.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if yaml && !hidden && !file.is_dir() {
            files.push(file);
        }
        if files.len() > MOST_FILES {
            let problem = Problem::new(format!("the folder has more than {MOST_FILES} YAML files"))
                .remedy("put more into each file");
            return Err(Box::new(whole_file(path, problem)));
        }
    }
    if files.is_empty() {
        let problem = Problem::new("the folder has no YAML files")
            .remedy("configuration files end in `.yaml` or `.yml` and are looked for in the folder itself");
        return Err(Box::new(whole_file(path, problem)));
    }
    files.sort();
    Ok(files)
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String, Box<ConfigError>> {
    let file = fs::File::open(path).map_err(|error| cannot_read(path, &error))?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(LARGEST)).unwrap_or(0) + 1);
    if size <= LARGEST {
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(path, &error))?;
    }
    if size > LARGEST || bytes.len() as u64 > LARGEST {
        let problem = Problem::new("the file is larger than 32MiB")
            .remedy("make several files of it, in a folder, and give the folder");
        return Err(Box::new(whole_file(path, problem)));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    // A byte order mark is no part of the first line: it would shift every column.
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Box<ConfigError> {
    let bytes = error.as_bytes();
    let valid = &bytes[..error.utf8_error().valid_up_to()];
    let line_start = valid.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let before = String::from_utf8_lossy(&valid[line_start..]).chars().count();
    let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
    let byte = bytes.get(valid.len()).copied().unwrap_or_default();
    let problem = Problem::new(format!("byte 0x{byte:02x} is not UTF-8")).remedy("save the file as UTF-8");
    let spot = Spot { file: path.to_owned(), line: line as u32, column: before as u32 + 1 };
    Box::new(ConfigError { spot, ..whole_file(path, problem) })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Box<ConfigError> {
    let problem = match error.kind() {
        ErrorKind::NotFound => Problem::new("there is no such file or folder")
            .remedy("check the path; `-c PATH` names a YAML file or a folder of them"),
        ErrorKind::PermissionDenied => {
            Problem::new("it may not be read").remedy("give the user that runs tollgate the right to read it")
        }
        _ => Problem::new(format!("it cannot be read: {error}")),
    };
    Box::new(whole_file(path, problem))
}

/// A problem of a file as a whole.
pub(super) fn whole_file(path: &Path, problem: Problem) -> ConfigError {
    ConfigError {
        spot: Spot { file: path.to_owned(), line: 0, column: 0 },
        path: ConfigPath::root(),
        snippet: None,
        problem,
        severity: Severity::Error,
        other: None,
    }
}

/// Finds places in the files. Parses a file again when it is first asked about it, which is when
/// there is something to report.
pub(super) struct Locator<'s> {
    sources: &'s Sources,
    trees: Vec<OnceCell<Option<Node<'s>>>>,
    hidden: Vec<OnceCell<Vec<Place>>>,
    secrets: OnceCell<Secrets>,
}

impl<'s> Locator<'s> {
    pub fn new(sources: &'s Sources) -> Self {
        let count = sources.files.len();
        Self {
            sources,
            trees: (0..count).map(|_| OnceCell::new()).collect(),
            hidden: (0..count).map(|_| OnceCell::new()).collect(),
            secrets: OnceCell::new(),
        }
    }

    fn tree(&self, file: usize) -> Option<&Node<'s>> {
        self.trees[file].get_or_init(|| tree::parse(&self.sources.files[file].text).root).as_ref()
    }

    /// The file in which `path` begins.
    fn file_of(&self, path: &ConfigPath) -> Option<usize> {
        let (section, name) = item(path)?;
        let read = |source: &Source| source.document.has(section, name);
        let written = |file: &usize| {
            let section = self.tree(*file).and_then(|tree| tree.get(section));
            section.is_some_and(|section| name.is_none_or(|name| section.get(name).is_some()))
        };
        let files = &self.sources.files;
        files.iter().position(read).or_else(|| (0..files.len()).find(written))
    }

    /// Where `path` stands, in which file.
    fn place(&self, path: &ConfigPath, at_key: bool) -> Option<(usize, Place)> {
        let file = self.file_of(path)?;
        Some((file, self.tree(file)?.place_of(path, at_key)))
    }

    /// Where `path` stands, if it is written at all.
    pub fn exact(&self, path: &ConfigPath) -> Option<Spot> {
        let file = self.file_of(path)?;
        let tree = self.tree(file)?;
        tree.has(path).then(|| self.spot(file, tree.place_of(path, false)))
    }

    /// What stands in two files.
    pub fn twice(&self, first: usize, second: usize, path: ConfigPath) -> ConfigError {
        let named = path.steps().len() > 1;
        let place = self.place_in(second, &path);
        let problem = Problem::new(format!("`{path}` is in two files")).remedy(if named {
            "rename one of them, or take one away"
        } else {
            "this section stands in one file alone: put the two together"
        });
        let other = Some(self.spot(first, self.place_in(first, &path)));
        let fault = Fault { place, other: None, path, problem };
        ConfigError { other, ..self.fault(second, fault) }
    }

    /// Where the last key of `path` stands in a file.
    fn place_in(&self, file: usize, path: &ConfigPath) -> Place {
        self.tree(file).map(|tree| tree.place_of(path, true)).unwrap_or_default()
    }

    fn spot(&self, file: usize, place: Place) -> Spot {
        Spot { file: self.sources.files[file].path.clone(), line: place.line, column: place.column }
    }

    /// What is wrong at a place of a file.
    pub fn fault(&self, file: usize, fault: Fault) -> ConfigError {
        ConfigError {
            spot: self.spot(file, fault.place),
            snippet: self.snippet(file, fault.place),
            other: fault.other.map(|place| self.spot(file, place)),
            path: fault.path,
            problem: fault.problem,
            severity: Severity::Error,
        }
    }

    /// What is wrong at a path, whatever file it is in.
    pub fn finding(&self, finding: Finding) -> ConfigError {
        let other = finding.other.and_then(|path| self.place(&path, false));
        let other = other.map(|(file, place)| self.spot(file, place));
        let at = self.place(&finding.path, finding.at_key).or_else(|| match &*self.sources.files {
            [_] => Some((0, Place { line: 1, column: 1, ..Place::default() })),
            _ => None,
        });
        let base = whole_file(&self.sources.root, finding.problem);
        let base = ConfigError { path: finding.path, severity: finding.severity, other, ..base };
        match at {
            Some((file, place)) => {
                ConfigError { spot: self.spot(file, place), snippet: self.snippet(file, place), ..base }
            }
            None => base,
        }
    }

    fn snippet(&self, file: usize, place: Place) -> Option<Snippet> {
        let line = tree::line(&self.sources.files[file].text, place.line)?;
        let before = place.column.saturating_sub(1) as usize;
        let secrets = self.secrets.get_or_init(Secrets::new);
        let Some(tree) = self.tree(file) else {
            return hide_by_key(line, &secrets.keys())
                .map(|line| Snippet::new(&hide_in_urls(&line), before, 1));
        };
        let hidden = self.hidden[file].get_or_init(|| secrets.places(tree));
        if hidden.iter().any(|s| s.more_lines > 0 && (s.line..=s.line + s.more_lines).contains(&place.line)) {
            return None;
        }
        let on_line = hidden.iter().filter(|s| s.line == place.line);
        let mut parts: Vec<(usize, usize)> =
            on_line.map(|s| (s.column as usize - 1, s.length as usize)).collect();
        let chars: Vec<char> = line.chars().collect();
        parts.extend(in_urls(&chars));
        parts.sort_unstable();
        let (mut shift, mut shorter, mut text, mut at) = (0_isize, 0, String::new(), 0);
        for (start, length) in parts {
            let (start, end) = (start.min(chars.len()), (start + length).min(chars.len()));
            // It may lie within the one before.
            if end <= at {
                continue;
            }
            text.extend(&chars[at.min(start)..start]);
            text.push_str("***");
            at = end;
            if before >= at {
                shift += 3 - length as isize;
            } else if before < start && end <= before + place.length as usize {
                shorter += length.saturating_sub(3);
            }
        }
        text.extend(&chars[at..]);
        let marked_secret = hidden.iter().any(|s| (s.line, s.column) == (place.line, place.column));
        let marked = if marked_secret { 3 } else { (place.length as usize).saturating_sub(shorter) };
        Some(Snippet::new(&text, before.saturating_add_signed(shift), marked))
    }
}

/// A line of a text that is no tree: all that follows a secret's key is hidden. `None` if a secret
/// may have begun on a line above, as is the case where the line has no key at all.
fn hide_by_key(line: &str, keys: &[String]) -> Option<String> {
    if !line.contains(':') {
        return None;
    }
    let lower = line.to_ascii_lowercase();
    let first = keys.iter().filter_map(|key| lower.find(key.as_str()).map(|at| at + key.len())).min();
    Some(match first {
        Some(end) => format!("{}: ***", &line[..end]),
        None => line.to_owned(),
    })
}

impl Document {
    /// True if what `path` begins with, a section or a named item of one, is in this document.
    pub(super) fn holds(&self, path: &ConfigPath) -> bool {
        item(path).is_some_and(|(section, name)| self.has(section, name))
    }

    /// True if this document has the section, or the item of that name in it.
    fn has(&self, section: &str, name: Option<&str>) -> bool {
        let Some(name) = name else {
            return self.has_section(section);
        };
        let parsed = || name.parse::<Name>().ok();
        match section {
            "listeners" => parsed().is_some_and(|name| self.listeners.contains_key(&name)),
            "upstreams" => parsed().is_some_and(|name| self.upstreams.contains_key(&name)),
            "routes" => parsed().is_some_and(|name| self.routes.contains_key(&name)),
            "hosts" => self.hosts.contains_key(name),
            "consumers" if name == "file" => self.consumers.file.is_some(),
            "consumers" => name.parse().is_ok_and(|name| self.consumers.named.contains_key(&name)),
            "plans" => parsed().is_some_and(|name| self.plans.contains_key(&name)),
            "roles" => parsed().is_some_and(|name| self.roles.contains_key(&name)),
            section => self.has_section(section),
        }
    }

    fn has_section(&self, section: &str) -> bool {
        match section {
            "version" => self.version.is_some(),
            "process" => self.process.is_some(),
            "admin" => self.admin.is_some(),
            "telemetry" => self.telemetry.is_some(),
            "policies" => self.policies.is_some(),
            "listeners" => !self.listeners.is_empty(),
            "upstreams" => !self.upstreams.is_empty(),
            "identity" => self.identity.is_some(),
            "consumers" => self.consumers.file.is_some() || !self.consumers.named.is_empty(),
            "plans" => !self.plans.is_empty(),
            "roles" => !self.roles.is_empty(),
            "hosts" => !self.hosts.is_empty(),
            "routes" => !self.routes.is_empty(),
            _ => false,
        }
    }
}

/// Turns problems without places into problems with places.
pub(super) fn locate(sources: &Sources, findings: Vec<Finding>) -> ConfigErrors {
    let locator = Locator::new(sources);
    ConfigErrors::new(findings.into_iter().map(|finding| locator.finding(finding)).collect())
}
