use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::*;
use crate::store::testing::{TestDatabase, config};

async fn open(database: &TestDatabase) -> PostgresStore {
    let ttl = Duration::from_secs(30);
    let store = PostgresStore::open(&database.url, config(), None, ttl);
    store.await.unwrap()
}

#[tokio::test]
async fn the_database_prepares_every_statement() {
    let database = TestDatabase::new();
    drop(open(&database).await);
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    for (name, statement) in sql::ALL {
        let prepare = format!("PREPARE {name} AS {statement}");
        let prepared = sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection);
        prepared
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused() {
    let database = TestDatabase::new();
    drop(open(&database).await);
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (1000, 'newer', true, '', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let opened = PostgresStore::open(&database.url, config(), None, Duration::ZERO).await;
    assert!(
        matches!(opened, Err(StoreError::Format { .. })),
        "{opened:?}"
    );
}
