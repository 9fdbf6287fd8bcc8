//! What the database said, as what a caller can do about it.

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Corrupt(error.to_string())
            }
            sqlx::Error::Database(found) => match found.code().as_deref() {
                // serialization_failure, deadlock_detected, lock_not_available
                Some("40001" | "40P01" | "55P03") => Self::Contended(found.to_string()),
                _ => Self::Unavailable(found.to_string()),
            },
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// A step of the schema that this version does not know is of a newer one.
pub(super) fn of_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => error.into(),
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            StoreError::Format {
                found: format!("{version} of the tables"),
                expected: "of an older server",
            }
        }
        other => StoreError::Unavailable(format!("the tables cannot be made: {other}")),
    }
}
