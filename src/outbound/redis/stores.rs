use super::{Store, StoreConfig};
use crate::outbound::Outbound;
use crate::values::{ConfigPath, Finding, Name, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The stores of a configuration, by name.
#[derive(Debug, Default)]
pub struct Stores {
    known: BTreeMap<Name, Store>,
    /// Those that could not be compiled.
    mistaken: BTreeSet<Name>,
}

impl Stores {
    /// Compiles what can be, and tells all that is wrong with the rest, with paths from the root.
    pub fn compile(configs: &BTreeMap<Name, Arc<StoreConfig>>, outbound: &Outbound) -> (Self, Vec<Finding>) {
        let section = ConfigPath::root().key("stores");
        let mut stores = Self::default();
        let mut all = Vec::new();
        for (name, config) in configs {
            let found = match outbound.store(name, config) {
                Ok((store, warnings)) => {
                    stores.known.insert(name.clone(), store);
                    warnings
                }
                Err(found) => {
                    stores.mistaken.insert(name.clone());
                    found
                }
            };
            all.extend(found.into_iter().map(|finding| finding.under(&section.key(name))));
        }
        (stores, all)
    }

    /// The store of this name.
    ///
    /// # Errors
    /// That there is none; nothing if it is there with mistakes, which have been told.
    pub fn get(&self, name: &Name) -> Result<&Store, Option<Problem>> {
        self.known.get(name).ok_or_else(|| {
            let known = self.known.keys().map(Name::as_str);
            (!self.mistaken.contains(name)).then(|| Problem::unknown("store", name.as_str(), known))
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Store> {
        self.known.values()
    }
}
