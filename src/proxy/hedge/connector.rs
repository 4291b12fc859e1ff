//! Connects what may be hedged, by a pool of its own.

use super::leg::Leg;
use super::session::Session;
use crate::upstream::peer;
use async_trait::async_trait;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::http::custom::{self, Connection};
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_error::{Error, ErrorType, Result};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// Connects to peers that are marked ([`peer::mark_hedged`]).
pub struct Hedger(Arc<Connector>);

impl Hedger {
    /// One whose pool is as large as Pingora's own.
    pub fn new(conf: &ServerConf) -> Self {
        Self(Arc::new(Connector::new(Some(ConnectorOptions::from_server_conf(conf)))))
    }
}

#[async_trait]
impl custom::Connector for Hedger {
    type Session = Session;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<Session>, bool)> {
        // Pingora's proxy has no others.
        let peer = (peer as &dyn Any)
            .downcast_ref::<HttpPeer>()
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "a peer of another kind"))?;
        let leg = Leg::connect(&self.0, peer::unmark_hedged(peer)).await?;
        let reused = leg.is_reused();
        Ok((Connection::Session(Session::new(Arc::clone(&self.0), leg)), reused))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _: &P) -> Option<Session> {
        // What is in the pool is found by `get_http_session`.
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: Session,
        _: &P,
        _: Option<Duration>,
    ) {
        session.release().await;
    }
}
