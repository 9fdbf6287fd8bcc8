//! A server is killed while a large file is on its way through it into an object store: what it kept is gone with
//! it, and the client brings the file to another server, from its beginning.

use std::{
    io::Cursor,
    sync::{Arc, Mutex},
    time::Duration,
};

use dual16_rpc::{
    Address, Blob, Connection, Policy, Retrying, credentials::Credentials, is_transient,
};
use dual16_server::digest::Digest;
use dual16_tests::{ServerProcess, postgres::Postgres, s3::S3};
use tokio::task::block_in_place;
use tonic::Status;

use crate::support::{Proxy, steady_port};

/// Several parts of a multipart upload.
const BYTES: usize = 40 << 20;

/// As a client is: it bears a server that is away.
#[derive(Debug)]
struct Patient;

impl Policy for Patient {
    fn patience(&self, status: &Status) -> Option<Duration> {
        is_transient(status).then_some(Duration::from_secs(60))
    }

    fn retrying(&self, _: &Retrying<'_>) {}
}

/// Where the sender is, and the server that ends when it has sent half.
struct Upload {
    position: i64,
    /// The lowest position since then.
    lowest: i64,
    doomed: Option<ServerProcess>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_server_is_killed_begins_anew_at_another_and_ends_well() {
    let database = block_in_place(Postgres::start);
    let files = block_in_place(S3::start);
    let (url, blobs, environment) = (database.url(), files.url(), files.environment());
    let [first, second] = block_in_place(|| {
        [(); 2].map(|()| {
            let address = format!("127.0.0.1:{}", steady_port());
            let places = ["--store", &url, "--blobs", &blobs];
            ServerProcess::start_in(environment.clone(), &address, &places)
        })
    });
    let addresses = [&first, &second].map(|server| server.address().to_owned());
    // Its first connection goes to the second of them.
    let service = Proxy::service(addresses.to_vec()).await;
    let address = Address::new(&service.url, &Credentials::default(), || None).unwrap();
    let connection = Connection::new(&address, Arc::new(Patient));

    let bytes: Arc<[u8]> = (0..BYTES).map(|at| (at * 7 / 3) as u8).collect();
    let digest = Digest::of(&bytes).to_string();
    let blob = Blob {
        digest: &digest,
        size: BYTES as u64,
    };
    let upload = Mutex::new(Upload {
        position: 0,
        lowest: i64::MAX,
        doomed: Some(second),
    });
    let moved = |by: i64| {
        let mut upload = upload.lock().unwrap();
        upload.position += by;
        if upload.doomed.is_none() {
            upload.lowest = upload.lowest.min(upload.position);
        }
        if upload.position >= BYTES as i64 / 2 {
            block_in_place(|| drop(upload.doomed.take()));
        }
    };
    let source = Arc::clone(&bytes);
    let open = move || Ok(Cursor::new(Arc::clone(&source)));
    connection.upload(blob, open, &moved).await.unwrap();
    let upload = upload.into_inner().unwrap();
    assert!(upload.doomed.is_none(), "it was never half sent");
    assert_eq!((upload.lowest, upload.position), (0, BYTES as i64));
    let kept = connection
        .download(&digest, None, Vec::new(), &|_| {})
        .await;
    assert!(kept.unwrap().0 == *bytes);
}
