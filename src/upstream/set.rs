//! The endpoints of an upstream at one moment, with what chooses among them.

use super::balance::{Balancer, Load};
use super::endpoint::{Choice, Endpoint};
use std::sync::Arc;

/// The endpoints of an upstream at one moment. It is never changed; a reload, or an answer of the
/// DNS, puts another one in its place.
#[derive(Debug)]
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
    balancer: Balancer,
}

impl EndpointSet {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>, balancer: Balancer) -> Self {
        Self { endpoints: endpoints.into(), balancer }
    }

    /// The endpoints, in the order in which they were given.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// An endpoint that is open, by what the request brings (`hint`) and the manner of balancing; one
    /// of `tried` only if no other is open. None if none is. What of `closed` an endpoint is keeps it
    /// from being open.
    pub(super) fn choose(&self, hint: Option<u64>, tried: &[Arc<Endpoint>], closed: u8) -> Option<Choice> {
        let open = |at: usize| !self.endpoints[at].state.is(closed);
        let is_tried = |at: usize| tried.iter().any(|it| Arc::ptr_eq(&it.state, &self.endpoints[at].state));
        let load = Load(&self.endpoints);
        let at = if tried.is_empty() {
            self.balancer.pick(hint, &load, open)?
        } else {
            let fresh = |at: usize| open(at) && !is_tried(at);
            self.balancer.pick(hint, &load, fresh).or_else(|| self.balancer.pick(hint, &load, open))?
        };
        Some(Choice::new(&self.endpoints[at]))
    }
}
