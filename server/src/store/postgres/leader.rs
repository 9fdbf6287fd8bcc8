//! What the servers of one database know of each other, by advisory locks of a session that each keeps
//! open: that somebody is there, and who does what one does for all.
//!
//! While nobody was there, nobody could hear a heartbeat: the first one that comes gives every lease a full
//! term. A database that restarts ends all sessions, so that the same holds after it.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use super::{column, sql};
use crate::{clock::Timestamp, store::StoreError};

#[derive(Debug)]
pub(super) struct Leader {
    options: PgConnectOptions,
    grace: Duration,
    longest_wait: Duration,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    connection: PgConnection,
    leads: bool,
}

impl Leader {
    pub(super) fn new(options: PgConnectOptions, grace: Duration, longest_wait: Duration) -> Self {
        Self {
            options,
            grace,
            longest_wait,
            session: None,
        }
    }

    /// Is there, from now on. After an error somebody has to call it again.
    pub(super) async fn attend(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.session.is_some() {
            return Ok(());
        }
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let alone: bool = sqlx::query_scalar(sql::TRY_ALONE)
            .fetch_one(&mut connection)
            .await?;
        if alone {
            let deadline = column(now.after(self.grace).as_millis());
            let adopted = sqlx::query(sql::ADOPT_LEASES)
                .bind(deadline)
                .bind(column(now.as_millis()));
            adopted.execute(&mut connection).await?;
            // Also if the clock was set back since a task failed.
            let longest = column(now.after(self.longest_wait).as_millis());
            let shortened = sqlx::query(sql::SHORTEN_WAITS).bind(longest);
            shortened.execute(&mut connection).await?;
        }
        sqlx::query(sql::PRESENT).execute(&mut connection).await?;
        if alone {
            sqlx::query(sql::END_ALONE).execute(&mut connection).await?;
        }
        self.session = Some(Session {
            connection,
            leads: false,
        });
        Ok(())
    }

    /// Whether this server does what one does for all: the first of those that are there.
    pub(super) async fn leads(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        self.attend(now).await?;
        let Some(session) = &mut self.session else {
            return Ok(false);
        };
        let statement = match session.leads {
            true => sql::STILL_THERE,
            false => sql::TRY_LEAD,
        };
        let leads = sqlx::query_scalar(statement);
        match leads.fetch_one(&mut session.connection).await {
            Ok(leads) => {
                if leads && !session.leads {
                    tracing::info!("this server looks after leases and what may go, for all");
                }
                session.leads = leads;
                Ok(leads)
            }
            // With the session its locks are gone.
            Err(error) => {
                self.session = None;
                Err(error.into())
            }
        }
    }

    /// Is not there any more.
    pub(super) async fn leave(&mut self) {
        if let Some(session) = self.session.take() {
            // The database ends what does not end itself.
            let _ = session.connection.close().await;
        }
    }
}
