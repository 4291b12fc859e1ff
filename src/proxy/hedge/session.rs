//! The exchange, as Pingora sees it: one session, which is one leg or, for a while, two.

use super::leg::{Leg, is_of_pool};
use super::plan::{Hedge, Report};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, StatusCode};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::custom::client;
use pingora_core::protocols::http::custom::{BodyWrite, CustomMessageWrite};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// An exchange that may be hedged. Small, as Pingora has room for several of it in what it keeps of each request, hedged or
/// not.
pub struct Session {
    connector: Arc<Connector>,
    /// The leg that is read from: the first one, until the second one has won.
    leg: Box<Leg>,
    second: Option<Box<Second>>,
    /// What may yet be sent a second time.
    planned: Option<(Box<RequestHeader>, Arc<dyn Hedging>)>,
}

/// Who says when a second endpoint is asked, and which one, and is told what came of it. A plan knows the whole
/// configuration, of which a session is to know nothing.
pub trait Hedging: Send + Sync {
    /// How long the first endpoint may be silent.
    fn after(&self) -> Duration;

    /// A second endpoint, if there is one that has not been asked, room for the request at once, and budget. Nothing
    /// is waited for.
    fn hedge(&self) -> Option<Hedge>;

    /// The second endpoint answered. `first_failed`: the first one has, too, and failed.
    fn won(&self, hedge: Hedge, first_failed: bool);

    /// The second endpoint did not answer, or is not listened to: it failed, or it was left.
    fn lost(&self, hedge: Hedge, failed: bool);

    /// What the session has told, once.
    fn report(&self) -> Report;
}

/// The plan of an attempt, as a head and the request's context carry it.
#[derive(Clone)]
pub struct Planned(pub Arc<dyn Hedging>);

/// A second endpoint that is asked.
struct Second {
    hedge: Hedge,
    leg: Option<Box<Leg>>,
}

/// What came of a leg: the status of its first head.
type Answer = Result<StatusCode>;

/// Who answered.
struct Race {
    second_won: bool,
    /// What came of each, as far as it was waited for.
    first: Option<Answer>,
    second: Option<Answer>,
}

impl Session {
    pub(super) fn new(connector: Arc<Connector>, leg: Leg) -> Self {
        Self { connector, leg: Box::new(leg), second: None, planned: None }
    }

    /// Ends what is under way, and keeps what may be used again.
    pub(super) async fn release(self) {
        if let Some(leg) = self.second.and_then(|second| second.leg) {
            leg.end(&self.connector).await;
        }
        self.leg.release(&self.connector).await;
    }

    /// Waits for the first leg alone and, once it was silent for long enough, for both. The loser is ended.
    async fn race(&mut self, head: &RequestHeader, plan: &dyn Hedging) -> Result<()> {
        let Self { connector, leg, second, .. } = self;
        let race = {
            let mut first = pin!(leg.read_head(connector));
            tokio::select! {
                biased;
                answer = &mut first => return answer.map(drop),
                () = sleep(plan.after()) => {}
            }
            let Some(hedge) = plan.hedge() else { return first.await.map(drop) };
            let second = second.insert(Box::new(Second { hedge, leg: None }));
            both(first, pin!(second.ask(connector, head))).await
        };
        let Some(second) = self.second.take() else { return Ok(()) };
        let Second { hedge, leg: other } = *second;
        match (race.second_won, other) {
            (true, Some(other)) => {
                let first_failed = race.first.is_some_and(|answer| is_failure(&answer, self.leg.is_reused()));
                std::mem::replace(&mut self.leg, other).end(&self.connector).await;
                plan.won(hedge, first_failed);
                Ok(())
            }
            (_, other) => {
                if let Some(other) = other {
                    other.end(&self.connector).await;
                }
                plan.lost(hedge, race.second.is_some());
                race.first.map_or(Ok(()), |answer| answer.map(drop))
            }
        }
    }
}

impl Second {
    /// Connects and asks, once more for each connection that had ended in the pool.
    async fn ask(&mut self, connector: &Connector, head: &RequestHeader) -> Answer {
        loop {
            let leg = Leg::connect(connector, self.hedge.peer.clone()).await?;
            let leg = self.leg.insert(Box::new(leg));
            let answer = match leg.write(head, self.hedge.host.as_ref()).await {
                Ok(()) => leg.read_head(connector).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if is_of_pool(&error, leg.is_reused()) => {}
                answer => return answer,
            }
        }
    }
}

/// Waits for whoever answers first. Who fails, by an error or a 5xx, does not win while the other one may yet
/// answer; of two that fail, an answer comes before an error, and the earlier answer before the later one.
async fn both(
    mut first: Pin<&mut impl Future<Output = Answer>>,
    mut second: Pin<&mut impl Future<Output = Answer>>,
) -> Race {
    let (is_first, earlier) = tokio::select! {
        biased;
        answer = &mut first => (true, answer),
        answer = &mut second => (false, answer),
    };
    if is_well(&earlier) {
        let (first, second) = if is_first { (Some(earlier), None) } else { (None, Some(earlier)) };
        return Race { second_won: !is_first, first, second };
    }
    let later = if is_first { second.await } else { first.await };
    let is_later = is_well(&later) || (earlier.is_err() && later.is_ok());
    let (first, second) = if is_first { (earlier, later) } else { (later, earlier) };
    // Of two errors, the first endpoint's is the exchange's.
    let second_won = second.is_ok() && is_first == is_later;
    Race { second_won, first: Some(first), second: Some(second) }
}

fn is_well(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|status| !status.is_server_error())
}

fn is_failure(answer: &Answer, is_reused: bool) -> bool {
    match answer {
        Ok(status) => status.is_server_error(),
        Err(error) => !is_of_pool(error, is_reused),
    }
}

#[async_trait]
impl client::Session for Session {
    async fn write_request_header(&mut self, mut head: Box<RequestHeader>, _: bool) -> Result<()> {
        let plan = head.extensions_mut().remove::<Planned>();
        self.leg.write(&head, None).await?;
        self.planned = plan.map(|Planned(plan)| (head, plan));
        Ok(())
    }

    async fn write_request_body(&mut self, data: Bytes, _: bool) -> Result<()> {
        no_body(&data)
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.leg.set_read_timeout(timeout);
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.leg.set_write_timeout(timeout);
    }

    async fn read_response_header(&mut self) -> Result<()> {
        match self.planned.take() {
            Some((head, plan)) => self.race(&head, &*plan).await,
            None => self.leg.read_head(&self.connector).await.map(drop),
        }
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        self.leg.read_body().await
    }

    fn response_finished(&self) -> bool {
        self.leg.is_finished()
    }

    async fn shutdown(&mut self, _: u32, _: &str) {
        // Whoever releases it ends it.
        self.second = None;
    }

    fn response_header(&self) -> Option<&ResponseHeader> {
        self.leg.head()
    }

    fn was_upgraded(&self) -> bool {
        false
    }

    fn digest(&self) -> Option<&Digest> {
        self.leg.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.leg.digest_mut()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.leg.server_addr()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.leg.client_addr()
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        self.leg.read_trailers().await
    }

    fn fd(&self) -> UniqueIDType {
        self.leg.fd()
    }

    async fn check_response_end_or_error(&mut self, after_head: bool) -> Result<bool> {
        self.leg.check_end(after_head)
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
        Some(Box::new(NoBody))
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        Some(Box::new(stream::empty()))
    }

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        Some(Box::new(()))
    }
}

/// Requests that may be hedged have no body.
struct NoBody;

fn no_body(data: &Bytes) -> Result<()> {
    match data.is_empty() {
        true => Ok(()),
        false => Error::e_explain(ErrorType::WriteError, "a body where there was none"),
    }
}

#[async_trait]
impl BodyWrite for NoBody {
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()> {
        no_body(data)
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    async fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    fn upgrade_body_writer(&mut self) {}
}
