use dual16_proto::v1;
use prost::Message as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::*;
use crate::{
    digest::Digest,
    job::{NewJob, Priority},
    principal::Principal,
    store::{
        Claim, Store as _,
        testing::{TestDatabase, config},
    },
};

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

#[tokio::test]
async fn a_job_of_before_there_were_priorities_is_normal_and_handed_out() {
    let database = TestDatabase::new();
    let pool = PostgresStore::pool(options::parse(&database.url).unwrap());
    migrate_by(&pool, &MIGRATIONS[..2]).await.unwrap();
    let new = NewJob {
        id: JobId::generate(),
        owner: Principal::anonymous(),
        priority: Priority::Normal,
        display_name: "model".into(),
        spec_digest: Digest::of(b"spec"),
        request_id: None,
        blobs: Vec::new(),
        trace: None,
    };
    let (id, now) = (new.id, Timestamp::from_millis(1000));
    let step = config().machine.create(new, now);
    let mut header = serde_json::to_value(&step.job).unwrap();
    header.as_object_mut().unwrap().remove("priority").unwrap();
    // As a server of then wrote it.
    let rows = [
        "INSERT INTO jobs (id, owner, state, claimable, header, spec) VALUES ($1, 'anonymous', 0, true, $2, $3)",
        "INSERT INTO tasks (job, stage, slot, record, payload) VALUES ($1, 0, 4294967296, $2, $3)",
    ];
    let spec = v1::JobSpec::default().encode_to_vec();
    let payload = v1::Payload::default().encode_to_vec();
    let task = serde_json::to_string(&step.tasks[0]).unwrap();
    let values = [(header.to_string(), spec), (task, payload)];
    for (row, (record, bytes)) in rows.into_iter().zip(values) {
        let inserted = sqlx::query(row).bind(&id.as_bytes()[..]);
        let inserted = inserted.bind(record).bind(bytes);
        inserted.execute(&pool).await.unwrap();
    }
    let queued = sqlx::query("INSERT INTO queue (job, stage, slot) VALUES ($1, 0, 4294967296)");
    let queued = queued.bind(&id.as_bytes()[..]);
    queued.execute(&pool).await.unwrap();
    pool.close().await;

    let store = open(&database).await;
    let claim = Claim {
        worker: "w".into(),
        jobs: Vec::new(),
        max_tasks: 1,
        max_bytes: usize::MAX,
        ttl: Duration::from_secs(30),
    };
    let claimed = store.claim(&claim, now).await.unwrap().tasks;
    let job = &claimed[0].job;
    assert_eq!((job.id, job.priority), (id, Priority::Normal));
}
