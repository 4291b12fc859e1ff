//! Which endpoint gets a request. Everything that takes time is done when a set of endpoints is
//! made; a pick allocates nothing and takes no lock.

mod ring;
mod round_robin;
mod sticky;
mod weighted;

pub use ring::{Ring, stable_hash};
pub use round_robin::RoundRobin;
pub use sticky::{Ids, Sticky};
pub use weighted::Weighted;

use super::endpoint::Endpoint;
use crate::config::model::upstream as model;
use crate::telemetry::random::next_u64;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What is picked by.
#[derive(Debug)]
pub(super) enum Balancer {
    /// In turn; the cursor outlives the configuration.
    RoundRobin(RoundRobin, Arc<AtomicUsize>),
    /// The less busy one of two drawn.
    LeastRequest(Weighted),
    /// Of two drawn the one that is expected to answer sooner.
    PeakEwma(Weighted),
    /// Drawn.
    Random(Weighted),
    /// By the hash of a value; without one, drawn.
    Hash(Ring, Weighted),
    /// By the id in a cookie; without one, the less busy one of two drawn.
    Sticky(Ids, Weighted),
}

/// How busy a set's endpoints are at a moment, in milliseconds of their upstream's clock.
pub(super) struct Load<'a>(pub &'a [Arc<Endpoint>], pub u64);

impl Load<'_> {
    fn of(&self, at: usize) -> u64 {
        self.0[at].state.in_flight()
    }

    /// What one more request costs there, for its weight.
    fn cost(&self, at: usize) -> f64 {
        let endpoint = &self.0[at];
        endpoint.state.ewma.cost(endpoint.state.in_flight(), self.1) / f64::from(endpoint.weight.max(1))
    }
}

impl Balancer {
    /// True if what a request brings decides, so that its endpoint does not change for less than its absence.
    pub(super) const fn keeps(&self) -> bool {
        matches!(self, Self::Hash(..) | Self::Sticky(..))
    }

    /// Works out what picks need. `cursor` is the upstream's.
    pub(super) fn new(
        config: &model::Balance,
        endpoints: &[Arc<Endpoint>],
        cursor: &Arc<AtomicUsize>,
    ) -> Self {
        let weights: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        match config {
            model::Balance::RoundRobin => Self::RoundRobin(RoundRobin::new(&weights), Arc::clone(cursor)),
            model::Balance::LeastRequest => Self::LeastRequest(Weighted::new(&weights)),
            model::Balance::PeakEwma => Self::PeakEwma(Weighted::new(&weights)),
            model::Balance::Random => Self::Random(Weighted::new(&weights)),
            model::Balance::Hash(_) => {
                let labels = endpoints.iter().map(|endpoint| &*endpoint.label);
                Self::Hash(Ring::new(labels.zip(weights.iter().copied())), Weighted::new(&weights))
            }
            model::Balance::Sticky(_) => {
                let ids = endpoints.iter().map(|endpoint| endpoint.sticky_id);
                Self::Sticky(Ids::new(ids), Weighted::new(&weights))
            }
        }
    }

    /// One that fits and has a weight, or none if there is none.
    pub(super) fn pick(
        &self,
        hint: Option<u64>,
        load: &Load<'_>,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(turns, cursor) => turns.next(cursor, load.0.len(), |at| fits(*at)),
            Self::LeastRequest(weighted) => least_request(weighted, load, &fits),
            Self::PeakEwma(weighted) => peak_ewma(weighted, load, &fits),
            Self::Random(weighted) => weighted.draw(next_u64, &fits),
            Self::Hash(ring, weighted) => match hint {
                Some(hash) => ring.find(hash, &fits),
                None => weighted.draw(next_u64, &fits),
            },
            Self::Sticky(ids, weighted) => {
                let kept = hint.and_then(|id| ids.find(id)).filter(|at| weighted.has(*at) && fits(*at));
                kept.or_else(|| least_request(weighted, load, &fits))
            }
        }
    }
}

/// Two drawn, and the one that costs less is taken.
fn peak_ewma(weighted: &Weighted, load: &Load<'_>, fits: &impl Fn(usize) -> bool) -> Option<usize> {
    let first = weighted.draw(next_u64, fits)?;
    let Some(second) = weighted.draw(next_u64, &|at| at != first && fits(at)) else { return Some(first) };
    Some(if load.cost(second) < load.cost(first) { second } else { first })
}

/// The power of two choices (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
/// 2001): both are drawn by weight, and the one with fewer requests for its weight is taken. Without
/// load the first one is, so that weights count then as well.
fn least_request(weighted: &Weighted, load: &Load<'_>, fits: &impl Fn(usize) -> bool) -> Option<usize> {
    let first = weighted.draw(next_u64, fits)?;
    let Some(second) = weighted.draw(next_u64, &|at| at != first && fits(at)) else { return Some(first) };
    let weight = |at: usize| u64::from(load.0[at].weight);
    let busier =
        load.of(first).saturating_mul(weight(second)) > load.of(second).saturating_mul(weight(first));
    Some(if busier { second } else { first })
}
