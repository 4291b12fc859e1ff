use super::{Cmd, FromRedisValue, Store, StoreFailure};
use redis::aio::MultiplexedConnection;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A connection for one caller, for commands that wait at the server: on the one that all share, everybody
/// would wait with them. It is made when it is needed, and again when it was lost.
pub struct Waiting {
    store: Store,
    connection: Option<(MultiplexedConnection, Driver)>,
}

/// What has to run for a connection to work; it ends with it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Store {
    /// A connection of its own, which is not made yet.
    pub fn waiting(&self) -> Waiting {
        Waiting { store: self.clone(), connection: None }
    }
}

impl Waiting {
    /// Sends a command that the server may let wait for `time`; beyond that, it has the store's time for a call.
    ///
    /// # Errors
    /// Why there is no answer of this type. The next call connects anew.
    pub async fn query<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        time: Duration,
    ) -> Result<T, StoreFailure> {
        // Who stops waiting leaves a connection on which an answer is still to come.
        let (mut connection, driver) = match self.connection.take() {
            Some(known) => known,
            None => {
                let (connection, driver) = self.store.link.connect().await.map_err(StoreFailure::Broken)?;
                (connection, Driver(tokio::spawn(driver)))
            }
        };
        let time = time + self.store.timeout;
        let answer = tokio::time::timeout(time, command.query_async(&mut connection)).await;
        let answer = answer.map_err(|_| StoreFailure::Timeout(time))?.map_err(|error| {
            let why = error.to_string();
            match error.is_io_error() || error.is_unrecoverable_error() {
                true => StoreFailure::Broken(why),
                false => StoreFailure::Refused(why),
            }
        })?;
        self.connection = Some((connection, driver));
        Ok(answer)
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiting").field(&self.store.name()).finish()
    }
}
