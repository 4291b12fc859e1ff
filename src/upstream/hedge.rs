//! When a second endpoint is asked while the first one is silent (Dean and Barroso, "The Tail at Scale", 2013), and
//! how often for all requests together.

use super::retry::{Budget, Further, Traffic};
use crate::config::model::upstream::Hedge;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an upstream says about second endpoints, with its budget for them.
#[derive(Debug)]
pub struct Hedges {
    after: Duration,
    share: f64,
    at_once: u16,
    budget: Arc<Budget>,
}

impl Hedges {
    /// What a configuration says, with what is spent already.
    pub fn new(config: &Hedge, budget: Arc<Budget>) -> Self {
        let (after, share) = (config.after.get(), config.share.fraction());
        Self { after, share, at_once: config.at_once, budget }
    }

    /// How long the first endpoint may be silent.
    pub const fn after(&self) -> Duration {
        self.after
    }

    /// Leave to ask a second endpoint, which counts as under way until it is dropped. None if as many are as may be.
    pub fn spend(&self, load: Traffic, now: Instant) -> Option<Further> {
        Further::beside(&self.budget, (self.share, self.at_once), load, now)
    }
}
