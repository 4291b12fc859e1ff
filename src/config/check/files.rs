//! Files that a configuration names.

use super::{Findings, section, why};
use crate::config::Config;
use crate::config::model::telemetry::LogTarget;
use crate::outbound::redis::StoreConfig;
use crate::values::{ConfigPath, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The largest error page.
const LARGEST_PAGE: u64 = 1 << 20;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    for (name, listener) in &config.listeners {
        let path = section("listeners").key(name);
        pages(&listener.error_pages, &path, findings);
        let Some(tls) = &listener.tls else { continue };
        let path = path.key("tls");
        for (index, pair) in tls.certificates.iter().enumerate() {
            let at = path.key("certificates").index(index);
            readable(&pair.certificate, at.key("certificate"), findings);
            readable(&pair.key, at.key("key"), findings);
        }
        if let Some(client) = &tls.client {
            let at = path.key("client");
            readable(&client.ca, at.key("ca"), findings);
            if let Some(crl) = &client.crl {
                readable(crl, at.key("crl"), findings);
            }
        }
    }
    if let Some(file) = &config.consumers.file {
        readable(file, section("consumers").key("file"), findings);
    }
    for (name, host) in &config.hosts {
        if !host.error_pages.is_empty() {
            pages(&host.error_pages, &section("hosts").key(name), findings);
        }
    }
    for (name, route) in &config.routes {
        if !route.error_pages.is_empty() {
            pages(&route.error_pages, &section("routes").key(name), findings);
        }
    }
    log_folder(config, findings);
}

fn pages(pages: &BTreeMap<u16, PathBuf>, path: &ConfigPath, findings: &mut Findings) {
    let path = path.key("error_pages");
    for (status, file) in pages {
        let at = path.key(status);
        if !(400..=599).contains(status) {
            let problem = Problem::new(format!("{status} is not the status of an error"))
                .remedy("error pages are for 400 to 599");
            findings.error_at_key(at.clone(), problem);
        }
        if readable(file, at.clone(), findings).is_some_and(|size| size > LARGEST_PAGE) {
            let problem = Problem::new(format!("`{}` is larger than 1MiB", file.display()))
                .remedy("an error page is kept in memory: make it smaller");
            findings.error(at, problem);
        }
    }
}

/// The size of a file, if it is one and can be read.
fn readable(file: &Path, path: ConfigPath, findings: &mut Findings) -> Option<u64> {
    let shown = file.display();
    // Looked at before it is opened: to open a pipe would wait for its other end.
    let opened = fs::metadata(file).and_then(|metadata| match metadata.is_file() {
        true => fs::File::open(file).map(|_| Some(metadata.len())),
        false => Ok(None),
    });
    match opened {
        Ok(Some(size)) => Some(size),
        Ok(None) => {
            findings.error(path, Problem::new(format!("`{shown}` is not a file")).remedy("name a file"));
            None
        }
        Err(error) => {
            let problem = Problem::new(format!("`{shown}` cannot be read: {}", why(&error)))
                .remedy("a relative path counts from the folder of the configuration file");
            findings.error(path, problem);
            None
        }
    }
}

fn log_folder(config: &Config, findings: &mut Findings) {
    let Some(LogTarget::File(file)) = config.telemetry.access_log.on().map(|log| &log.to) else { return };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) || file.is_dir() {
        let problem = Problem::new(format!("`{}` cannot be created", file.display()))
            .remedy("name a file in a folder that exists");
        findings.error(section("telemetry").key("access_log").key("to").key("file"), problem);
    }
}

impl Config {
    /// Every file and folder that has a say in this configuration, for those who watch for changes:
    /// what was loaded, and the certificates, keys, pages and secrets that it names. The access log
    /// is not among them.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: BTreeSet<PathBuf> = self.sources.files().map(Path::to_owned).collect();
        files.insert(self.sources.root.clone());
        files.extend(self.secret_files.iter().cloned());
        files.extend(self.consumers.file.iter().cloned());
        files.extend(self.identity.clone().files().into_iter().map(|file| file.clone()));
        for store in self.stores.values() {
            files.extend(StoreConfig::clone(store).files().into_iter().map(|file| file.clone()));
        }
        for listener in self.listeners.values() {
            files.extend(listener.error_pages.values().cloned());
            let Some(tls) = &listener.tls else { continue };
            for pair in &tls.certificates {
                files.extend([pair.certificate.clone(), pair.key.clone()]);
            }
            if let Some(client) = &tls.client {
                files.insert(client.ca.clone());
                files.extend(client.crl.clone());
            }
        }
        for tls in self.upstreams.values().filter_map(|upstream| upstream.tls.as_ref()) {
            files.extend(tls.ca.clone());
            files.extend(tls.client.iter().flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]));
        }
        files.extend(self.hosts.values().flat_map(|host| host.error_pages.values().cloned()));
        files.extend(self.routes.values().flat_map(|route| route.error_pages.values().cloned()));
        files.into_iter().collect()
    }
}
