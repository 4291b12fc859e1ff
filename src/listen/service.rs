use super::accept;
use super::connection::Server;
use super::listeners::{Listeners, Order};
use super::observer::{Observer, Unobserved};
use super::slot::Slot;
use async_trait::async_trait;
use pingora_core::apps::HttpServerApp;
use pingora_core::server::{ListenFds, ShutdownWatch};
use std::sync::Arc;

/// The service that accepts and serves what [`Listeners`] has, for Pingora's `Server`.
///
/// Its runtime serves the connections. It can run once.
pub struct Service<A> {
    name: String,
    listeners: Listeners,
    app: Arc<A>,
    observer: Arc<dyn Observer>,
    threads: Option<usize>,
}

impl<A> Service<A> {
    /// A service by this name, which is also its threads', that serves `app` on `listeners`.
    pub fn new(name: impl Into<String>, listeners: Listeners, app: Arc<A>) -> Self {
        Self { name: name.into(), listeners, app, observer: Arc::new(Unobserved), threads: None }
    }

    /// Tells `observer` what no request tells.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// How many worker threads Pingora is to give it. Default: as many as the server's.
    #[must_use]
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = Some(count);
        self
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> pingora_core::services::Service for Service<A> {
    /// Runs until `shutdown` is true and the last connection has ended. `accept_tasks`, for each
    /// listener, is Pingora's `listener_tasks_per_fd`; one for each worker, with work stealing, was
    /// measured to be cheapest (3 % less than one for all, 8 % less than workers that do not steal,
    /// which also share connections unevenly).
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        accept_tasks: usize,
    ) {
        let shared = self.listeners.shared().clone();
        let Some(mut queue) = shared.take_queue() else {
            log::error!("the listeners are served already: service={}", self.name);
            return;
        };
        let accept_tasks = accept_tasks.max(1);
        shared.set_accept_tasks(accept_tasks);
        shared.wake();
        let server = Arc::new(Server { app: self.app.clone(), shared, observer: self.observer.clone() });
        loop {
            tokio::select! {
                Some(order) = queue.recv() => match order {
                    Order::Start(slot) => start(&server, &slot, accept_tasks),
                    // By a worker: this loop may run beside them.
                    Order::Answer(answer) => drop(tokio::spawn(async move { answer.send(()) })),
                },
                _ = shutdown.wait_for(|stopping| *stopping) => break,
            }
        }
        self.listeners.shutdown();
        self.listeners.drained().await;
        self.app.http_cleanup().await;
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }
}

/// Begins to accept on a listener, by so many tasks on one queue.
fn start<A>(server: &Arc<Server<A>>, slot: &Arc<Slot>, tasks: usize)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    for _ in 0..tasks {
        match slot.duplicate() {
            Ok(Some(socket)) => {
                tokio::spawn(accept::run(server.clone(), slot.clone(), socket));
            }
            // Removed before it was started.
            Ok(None) => return,
            Err(error) => {
                log::error!("cannot accept: listener={} error=\"{error}\"", slot.name);
            }
        }
    }
}
