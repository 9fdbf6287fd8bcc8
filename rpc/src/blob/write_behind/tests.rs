//! A consumer behind its queue: all in order, bounded, and never a wait for one that is gone.

use std::{sync::mpsc, time::Duration};

use super::*;

/// Takes a chunk for each word it is given; fails at a chunk "bad", panics at "worse".
struct Gated {
    gate: mpsc::Receiver<()>,
    taken: Arc<Mutex<Vec<Bytes>>>,
}

impl Consume for Gated {
    type Error = io::Error;

    fn consume(&mut self, chunk: Bytes) -> io::Result<()> {
        self.gate.recv().map_err(io::Error::other)?;
        assert_ne!(&chunk[..], b"worse", "a consumer with a bug");
        if &chunk[..] == b"bad" {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.taken.lock().unwrap().push(chunk);
        Ok(())
    }
}

struct Fixture {
    writer: WriteBehind<Gated>,
    gate: mpsc::Sender<()>,
    taken: Arc<Mutex<Vec<Bytes>>>,
}

fn fixture() -> Fixture {
    let (sender, gate) = mpsc::channel();
    let taken = Arc::default();
    let consumer = Gated {
        gate,
        taken: Arc::clone(&taken),
    };
    Fixture {
        writer: WriteBehind::new(consumer),
        gate: sender,
        taken,
    }
}

fn chunk(index: usize) -> Bytes {
    index.to_string().into_bytes().into()
}

#[tokio::test]
async fn a_slow_consumer_stops_the_writer_and_gets_all_in_order() {
    let Fixture {
        mut writer,
        gate,
        taken,
    } = fixture();
    for index in 0..CHUNKS_IN_FLIGHT {
        writer.write(chunk(index)).await.unwrap();
    }
    let one_more = tokio::time::timeout(Duration::from_millis(20), writer.write(chunk(99)));
    assert!(one_more.await.is_err(), "there is no room");
    for _ in 0..50 {
        gate.send(()).unwrap();
    }
    for index in CHUNKS_IN_FLIGHT..50 {
        writer.write(chunk(index)).await.unwrap();
    }
    drop(writer.finish().await.unwrap());
    assert_eq!(
        *taken.lock().unwrap(),
        (0..50).map(chunk).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn an_error_is_told_once_and_nothing_is_taken_after_it() {
    let Fixture {
        mut writer,
        gate,
        taken,
    } = fixture();
    for word in ["good", "bad", "late"] {
        writer.write(Bytes::from(word)).await.unwrap();
        gate.send(()).unwrap();
    }
    let error = loop {
        // Until the consumer has come to the bad chunk there is room for more.
        if let Err(error) = writer.write(chunk(0)).await {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let again = writer.finish().await.err().unwrap();
    assert!(again.to_string().contains("stopped"), "{again}");
    assert_eq!(*taken.lock().unwrap(), ["good"]);
}

#[tokio::test]
async fn an_error_of_the_last_chunk_is_told_at_the_end() {
    let Fixture {
        mut writer, gate, ..
    } = fixture();
    writer.write(Bytes::from("bad")).await.unwrap();
    gate.send(()).unwrap();
    let error = writer.finish().await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[tokio::test]
async fn a_consumer_that_panics_is_an_error_and_no_wait_for_ever() {
    let Fixture {
        mut writer, gate, ..
    } = fixture();
    for word in ["worse", "late"] {
        writer.write(Bytes::from(word)).await.unwrap();
    }
    gate.send(()).unwrap();
    let error = writer.finish().await.err().unwrap();
    assert!(error.to_string().contains("stopped"), "{error}");
}

#[tokio::test]
async fn what_was_given_is_taken_even_when_the_giver_is_gone() {
    let Fixture {
        mut writer,
        gate,
        taken,
    } = fixture();
    for index in 0..3 {
        writer.write(chunk(index)).await.unwrap();
    }
    drop(writer);
    for _ in 0..3 {
        gate.send(()).unwrap();
    }
    // The consumer is dropped last, and its end of the gate with it.
    while gate.send(()).is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(*taken.lock().unwrap(), [chunk(0), chunk(1), chunk(2)]);
}
