//! Watches that lose their server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dual16::api::{ApiError, Client, ConnectOptions, RetryPolicy};
use dual16_proto::v1::{JobState, Notice, event_detail::Detail};

use crate::{
    fake::{Fake, JOB},
    proxy::{Proxy, UNLIMITED},
};

fn notices(count: usize) -> Vec<Detail> {
    let notice = |index| Notice {
        message: format!("{index:0>1000}"),
        ..Notice::default()
    };
    (0..count)
        .map(|index| Detail::Notice(notice(index)))
        .collect()
}

fn options(url: &str) -> ConnectOptions {
    ConnectOptions {
        retry: RetryPolicy {
            give_up_after: Duration::from_secs(10),
            first_delay: Duration::from_millis(10),
            max_delay: Duration::from_millis(50),
        },
        ..ConnectOptions::new(url)
    }
}

async fn sequences(client: &Client) -> Result<Vec<u64>, ApiError> {
    let mut watch = client.watch(&JOB.parse().unwrap(), 0);
    let mut sequences = Vec::new();
    while let Some(event) = watch.next().await? {
        sequences.push(event.sequence);
    }
    Ok(sequences)
}

#[tokio::test]
async fn a_lost_watch_goes_on_where_it_was() {
    let fake = Fake::start().await;
    fake.script(notices(200), JobState::Succeeded);
    let budgets = [40_000, 0, 60_000];
    let proxy = Proxy::start(fake.addr, budgets, UNLIMITED).await;
    let told = Arc::new(Mutex::new(0));
    let count = Arc::clone(&told);
    let options = ConnectOptions {
        on_retry: Arc::new(move |_| *count.lock().unwrap() += 1),
        ..options(&proxy.url)
    };
    let client = Client::connect(options).await.unwrap();

    let sequences = sequences(&client).await.unwrap();

    assert_eq!(
        sequences,
        (1..=201).collect::<Vec<_>>(),
        "each event once, in order"
    );
    let watches = fake.state().watches.clone();
    assert!(watches.len() >= 3, "{watches:?}");
    assert!(
        watches.windows(2).all(|pair| pair[0] < pair[1]),
        "none from the start: {watches:?}"
    );
    assert!(
        *told.lock().unwrap() >= 2,
        "the owner heard of every outage"
    );
}

#[tokio::test]
async fn cuts_far_apart_are_outages_of_their_own_though_the_job_is_silent() {
    let fake = Fake::start().await;
    fake.script(notices(2), JobState::Succeeded);
    fake.state().silences = [0, 1200, 1200].map(Duration::from_millis).into();
    let mut options = options(&fake.url());
    options.retry.give_up_after = Duration::from_millis(300);
    let client = Client::connect(options).await.unwrap();

    assert_eq!(sequences(&client).await.unwrap(), [1, 2, 3]);
    assert_eq!(fake.state().watches, [0; 4]);
}

#[tokio::test]
async fn a_server_that_cuts_every_watch_at_once_is_given_up() {
    let fake = Fake::start().await;
    fake.script(notices(2), JobState::Succeeded);
    fake.state().silences = vec![Duration::ZERO; 100].into();
    let mut options = options(&fake.url());
    options.retry.give_up_after = Duration::from_millis(300);
    let client = Client::connect(options).await.unwrap();

    let error = sequences(&client).await.unwrap_err();

    assert!(matches!(error, ApiError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_watch_that_ends_too_early_is_taken_up_again() {
    let fake = Fake::start().await;
    fake.script(notices(5), JobState::Succeeded);
    fake.state().end_watch_after = Some(2);
    let client = Client::connect(options(&fake.url())).await.unwrap();

    assert_eq!(sequences(&client).await.unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(fake.state().watches, [0, 2]);
}

#[tokio::test]
async fn a_watch_from_beyond_the_last_event_ends() {
    let fake = Fake::start().await;
    fake.script(notices(1), JobState::Succeeded);
    let client = Client::connect(options(&fake.url())).await.unwrap();
    let mut watch = client.watch(&JOB.parse().unwrap(), 2);
    assert!(watch.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_that_stays_away_ends_the_watch_with_its_url() {
    let fake = Fake::start().await;
    fake.script(notices(200), JobState::Succeeded);
    let proxy = Proxy::start(fake.addr, [20_000], 0).await;
    let mut options = options(&proxy.url);
    options.retry.give_up_after = Duration::from_millis(300);
    let client = Client::connect(options).await.unwrap();

    let error = sequences(&client).await.unwrap_err();

    assert!(
        matches!(
            error,
            ApiError::Unreachable {
                call: "WatchJob",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains(&proxy.url), "{error}");
}

#[tokio::test]
async fn what_is_no_dual16_server_is_told_apart_from_nothing() {
    let router = tonic::transport::Server::builder().add_service(
        dual16_proto::v1::blob_service_server::BlobServiceServer::new(
            crate::fake::Shared::default(),
        ),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });

    let error = Client::connect(options(&url)).await.unwrap_err();

    assert!(matches!(error, ApiError::NotDual16 { .. }), "{error}");
}
