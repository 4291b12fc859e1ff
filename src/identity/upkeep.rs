use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// Work that a configuration needs done beside requests, such as fetching keys. It belongs to what is
/// kept over reloads, and goes on over a reload that leaves it as it is.
#[derive(Clone)]
pub struct Upkeep {
    id: String,
    settings: String,
    run: Work,
    ready: Option<Work>,
}

type Work = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

impl Upkeep {
    /// Work named `id`, done with these settings: other ones begin it anew.
    pub fn new(
        id: String,
        settings: String,
        run: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { id, settings, run: Arc::new(run), ready: None }
    }

    /// With this to wait for before requests come that need what it brings.
    pub fn until(self, ready: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self { ready: Some(Arc::new(ready)), ..self }
    }

    /// Ends when requests find what they need; it may never come to that.
    pub async fn ready(&self) {
        if let Some(ready) = &self.ready {
            ready().await;
        }
    }

    /// What the work is called.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is done with.
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// The work itself; it goes on until it is dropped.
    pub fn run(&self) -> BoxFuture<'static, ()> {
        (self.run)()
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upkeep").field(&self.id).finish()
    }
}
