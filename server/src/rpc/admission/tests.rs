use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::sync::Notify;
use tower::service_fn;

use super::*;

/// A request of one message of `length` bytes.
fn request(length: usize) -> Request<Body> {
    let mut bytes = BytesMut::from(&[0][..]);
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.resize(bytes.len() + length, 7);
    let body = Body::new(Once(Some(bytes.freeze())));
    let mut request = Request::new(body);
    *request.uri_mut() = "/dual16.v1.BlobService/FindMissing".parse().unwrap();
    request
}

struct Once(Option<Bytes>);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }
}

async fn read(body: &mut Body) {
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        frame.unwrap();
    }
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
            read(&mut request.into_body()).await;
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
