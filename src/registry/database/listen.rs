//! Notifications of PostgreSQL. They only save time: a gateway looks each second in any case.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{sleep, timeout};

use super::connect::Database;
use super::connection::postgres_options;
use super::transaction::CHANNEL;

/// Longest wait for the connection.
const CONNECT: Duration = Duration::from_millis(1500);

/// Pause before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

impl Database {
    /// Calls `tell` for each notification, for each change that this process made, and when the
    /// connection was lost. It never returns.
    pub async fn listen(&self, tell: impl Fn()) {
        if !self.config().is_remote() {
            loop {
                self.changed().await;
                tell();
            }
        }
        loop {
            if let Ok(Some(mut listener)) = timeout(CONNECT, self.listener()).await {
                // A change may have come before the connection.
                tell();
                while let Ok(Some(_)) = listener.try_recv().await {
                    tell();
                }
                tell();
            }
            sleep(PAUSE).await;
        }
    }

    async fn listener(&self) -> Option<PgListener> {
        let options = postgres_options(self.config()).ok()?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT)
            .connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await.ok()?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.ok()?;
        Some(listener)
    }
}
