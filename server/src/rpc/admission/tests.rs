use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use http_body_util::{BodyExt as _, Full};
use tokio::sync::Notify;
use tower::service_fn;

use super::*;

/// A request of `length` bytes.
fn request(length: usize) -> Request<Body> {
    let mut request = Request::new(Body::new(Full::from(vec![7; length])));
    *request.uri_mut() = "/dual16.v1.BlobService/FindMissing".parse().unwrap();
    request
}

#[tokio::test]
async fn a_request_is_decoded_when_there_is_room_and_holds_it_while_it_is_worked_on() {
    let gate = Admission::new(&Limits {
        decoded_bytes: 100,
        ..Limits::default()
    });
    let (decoded, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, wait) = (Arc::clone(&decoded), Arc::clone(&go_on));
    let service = service_fn(move |request: Request<Body>| {
        let (counted, wait) = (Arc::clone(&counted), Arc::clone(&wait));
        async move {
            request.into_body().collect().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            wait.notified().await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let mut admitted = gate.layer(service);
    // The answers stay open: a reader may take its time.
    let calls: Vec<_> = [60, 60, 40]
        .map(|length| tokio::spawn(admitted.call(request(length))))
        .into();
    let settle = async |expected: usize| {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(decoded.load(Ordering::SeqCst), expected);
    };
    settle(1).await;
    go_on.notify_one();
    settle(3).await;
    go_on.notify_one();
    go_on.notify_one();
    let mut open = Vec::new();
    for call in calls {
        open.push(call.await.unwrap().unwrap());
    }
}
