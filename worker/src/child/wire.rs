//! What a worker and the process of a job say to each other over a socket pair: frames of a length
//! (four bytes, little-endian) and a message. Both ends are one build of one program, so there are no
//! versions.

use std::io::{self, Read, Write};

use dual16_proto::v1::{EventDetail, JobSpec, Lease};
use dual16_quant::{
    flow::Next,
    memory::{Held, Kind},
};
use prost::Message;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _},
};

use crate::runner::{TaskError, TaskOutput};

/// Worker to process.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Comes first.
    Begin(Box<Begin>),
    Run(Box<Run>),
    /// A task should end.
    Cancel(u64),
    /// To what was asked under a number.
    Answer(u64, Answer),
    /// Answered at once, whatever is computed.
    Ping,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Begin {
    /// Threads that compute.
    pub(super) threads: u64,
    /// Bytes for all tasks of the worker.
    pub(super) memory: Option<u64>,
    /// Of the job whose tasks follow.
    pub(super) spec: Api<JobSpec>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) task: u64,
    /// Where in the places the task says what it is at.
    pub(super) slot: u64,
    /// Without its payload and inputs, which follow.
    pub(super) lease: Api<Lease>,
    pub(super) payload: Bytes,
    pub(super) inputs: Vec<Bytes>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// A path or a digest.
    Text(Result<String, IoError>),
    /// Memory: whether a share was taken, otherwise what all processes hold.
    Lent(Result<(), Held>),
}

/// Process to worker.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Report {
    OfTask(u64, OfTask),
    /// The process wants memory, or, without a share, to know what is held.
    Borrow {
        ask: u64,
        share: Option<(Kind, u64)>,
    },
    GiveBack(Kind, u64),
    Pong,
}

/// What a task tells or asks.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum OfTask {
    /// It wants a blob, or to leave one.
    Ask {
        ask: u64,
        kind: Ask,
    },
    KernelRan {
        way: String,
        products: u64,
        nanoseconds: u64,
    },
    /// A run of a way of a layer, for the trace of the task.
    SpanBegins(Span),
    /// The one of this number has ended.
    SpanEnds(u64),
    Done(Result<Output, TaskError>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// A local copy of a blob, by its digest.
    Path(String),
    Put(Bytes),
    /// A file, by its path.
    PutFile(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) number: u64,
    pub(super) layer: String,
    pub(super) way: String,
}

/// A [`TaskOutput`] on its way.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Output {
    result: Bytes,
    events: Vec<Api<EventDetail>>,
    next: Option<Next>,
}

impl From<TaskOutput> for Output {
    fn from(output: TaskOutput) -> Self {
        Self {
            result: Bytes(output.result),
            events: output.events.into_iter().map(Api).collect(),
            next: output.next,
        }
    }
}

impl From<Output> for TaskOutput {
    fn from(output: Output) -> Self {
        Self {
            result: output.result.0,
            events: output.events.into_iter().map(|event| event.0).collect(),
            next: output.next,
        }
    }
}

/// An [`io::Error`] on its way.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct IoError {
    /// Place in [`KINDS`]; beyond it, any other kind.
    kind: usize,
    message: String,
}

/// The kinds that somebody tells apart.
const KINDS: [io::ErrorKind; 6] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::QuotaExceeded,
    io::ErrorKind::StorageFull,
    io::ErrorKind::InvalidData,
    io::ErrorKind::Interrupted,
    io::ErrorKind::UnexpectedEof,
];

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        let kind = KINDS.iter().position(|kind| *kind == error.kind());
        Self {
            kind: kind.unwrap_or(KINDS.len()),
            message: error.to_string(),
        }
    }
}

impl From<IoError> for io::Error {
    fn from(error: IoError) -> Self {
        let kind = KINDS.get(error.kind);
        io::Error::new(kind.copied().unwrap_or(io::ErrorKind::Other), error.message)
    }
}

/// Bytes that are copied as a whole; serde's own are copied one by one.
#[derive(Debug, PartialEq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(<&[u8]>::deserialize(deserializer)?.to_vec()))
    }
}

/// A message of the API, in its own encoding.
#[derive(Debug, PartialEq)]
pub(super) struct Api<M>(pub(super) M);

impl<M: Message> Serialize for Api<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.encode_to_vec())
    }
}

impl<'de, M: Message + Default> Deserialize<'de> for Api<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let message = M::decode(<&[u8]>::deserialize(deserializer)?);
        message.map(Self).map_err(D::Error::custom)
    }
}

/// Writes one message.
///
/// # Errors
/// The socket's; a message of 4 GiB or more.
pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)
}

/// Reads one message; `None` at the end.
///
/// # Errors
/// The socket's; what is no message.
pub(super) fn read<M: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut frame)?;
    let message = postcard::from_bytes(&frame);
    message.map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_through_and_an_end_in_one_is_an_error() {
        let order = Order::Run(Box::new(Run {
            task: 7,
            slot: 1,
            lease: Api(Lease {
                stage: "plan".to_owned(),
                ..Lease::default()
            }),
            payload: Bytes(vec![0; 100_000]),
            inputs: vec![Bytes(Vec::new()), Bytes(vec![1])],
        }));
        let mut bytes = Vec::new();
        write(&mut bytes, &order).unwrap();
        write(&mut bytes, &Order::Ping).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read::<Order>(&mut from).unwrap(), Some(order));
        assert_eq!(read::<Order>(&mut from).unwrap(), Some(Order::Ping));
        assert_eq!(read::<Order>(&mut from).unwrap(), None);
        assert!(read::<Order>(&mut &bytes[..1000]).is_err());
    }

    #[test]
    fn kinds_of_errors_that_somebody_tells_apart_stay() {
        for kind in KINDS {
            let sent = IoError::from(io::Error::new(kind, "why"));
            let come = io::Error::from(sent);
            assert_eq!((come.kind(), come.to_string()), (kind, "why".to_owned()));
        }
        let other = io::Error::from(IoError::from(io::Error::other("why")));
        assert_eq!(other.kind(), io::ErrorKind::Other);
    }
}
