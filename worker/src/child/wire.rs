//! What a worker and the process of a job say to each other over a socket pair: frames of a length
//! (four bytes, little-endian) and a protobuf message. Both ends are one build of one program, so there
//! are no versions.

use std::io::{self, Read, Write};

use dual16_proto::v1::{EventDetail, JobSpec, Lease};
use prost::{Message, Oneof};

/// Worker to process.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Order {
    #[prost(oneof = "order::Kind", tags = "1, 2, 3, 4, 5")]
    pub(super) kind: Option<order::Kind>,
}

pub(super) mod order {
    use super::{Answer, Begin, Oneof, Run};

    #[derive(Clone, PartialEq, Oneof)]
    pub(in super::super) enum Kind {
        /// Comes first.
        #[prost(message, tag = "1")]
        Begin(Box<Begin>),
        #[prost(message, tag = "2")]
        Run(Box<Run>),
        /// A task should end.
        #[prost(uint64, tag = "3")]
        Cancel(u64),
        #[prost(message, tag = "4")]
        Answer(Answer),
        /// Answered at once, whatever is computed.
        #[prost(bool, tag = "5")]
        Ping(bool),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Begin {
    /// Threads that compute.
    #[prost(uint64, tag = "1")]
    pub(super) threads: u64,
    /// Bytes for all tasks of the worker.
    #[prost(uint64, optional, tag = "2")]
    pub(super) memory: Option<u64>,
    /// Of the job whose tasks follow.
    #[prost(message, required, tag = "3")]
    pub(super) spec: JobSpec,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Run {
    #[prost(uint64, tag = "1")]
    pub(super) task: u64,
    /// Where in the places the task says what it is at.
    #[prost(uint64, tag = "2")]
    pub(super) slot: u64,
    /// Without its payload and inputs, which follow.
    #[prost(message, required, tag = "3")]
    pub(super) lease: Lease,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) payload: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(super) inputs: Vec<Vec<u8>>,
}

/// To what was asked under a number.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(uint64, tag = "1")]
    pub(super) ask: u64,
    #[prost(oneof = "answer::Kind", tags = "2, 3, 4")]
    pub(super) kind: Option<answer::Kind>,
}

pub(super) mod answer {
    use super::{IoError, Lent, Oneof};

    #[derive(Clone, PartialEq, Oneof)]
    pub(in super::super) enum Kind {
        /// A path or a digest.
        #[prost(string, tag = "2")]
        Text(String),
        #[prost(message, tag = "3")]
        Failed(IoError),
        #[prost(message, tag = "4")]
        Lent(Lent),
    }
}

/// Memory: whether a share was taken, and what all processes hold.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Lent {
    #[prost(bool, tag = "1")]
    pub(super) taken: bool,
    #[prost(uint64, tag = "2")]
    pub(super) resident: u64,
    #[prost(uint64, tag = "3")]
    pub(super) running: u64,
}

/// An [`io::Error`] on its way.
#[derive(Clone, PartialEq, Message)]
pub(super) struct IoError {
    /// Place in [`KINDS`]; beyond it, any other kind.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
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
            kind: kind.unwrap_or(KINDS.len()) as u32,
            message: error.to_string(),
        }
    }
}

impl From<IoError> for io::Error {
    fn from(error: IoError) -> Self {
        let kind = KINDS.get(error.kind as usize);
        io::Error::new(kind.copied().unwrap_or(io::ErrorKind::Other), error.message)
    }
}

/// Process to worker.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Report {
    #[prost(oneof = "report::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(super) kind: Option<report::Kind>,
}

pub(super) mod report {
    use super::{Ask, Borrow, Done, KernelRan, Oneof, Share, SpanBegins, SpanEnds};

    #[derive(Clone, PartialEq, Oneof)]
    pub(in super::super) enum Kind {
        #[prost(message, tag = "1")]
        Ask(Ask),
        #[prost(message, tag = "2")]
        Borrow(Borrow),
        #[prost(message, tag = "3")]
        GiveBack(Share),
        #[prost(message, tag = "4")]
        KernelRan(KernelRan),
        #[prost(message, tag = "5")]
        Done(Done),
        #[prost(bool, tag = "6")]
        Pong(bool),
        #[prost(message, tag = "7")]
        SpanBegins(SpanBegins),
        #[prost(message, tag = "8")]
        SpanEnds(SpanEnds),
    }
}

/// A task wants a blob, or to leave one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ask {
    #[prost(uint64, tag = "1")]
    pub(super) ask: u64,
    #[prost(uint64, tag = "2")]
    pub(super) task: u64,
    #[prost(oneof = "ask::Kind", tags = "3, 4, 5")]
    pub(super) kind: Option<ask::Kind>,
}

pub(super) mod ask {
    use super::Oneof;

    #[derive(Clone, PartialEq, Oneof)]
    pub(in super::super) enum Kind {
        /// A local copy of a blob, by its digest.
        #[prost(string, tag = "3")]
        Path(String),
        #[prost(bytes = "vec", tag = "4")]
        Put(Vec<u8>),
        /// A file, by its path.
        #[prost(string, tag = "5")]
        PutFile(String),
    }
}

/// The process wants memory, or, without a share, to know what is held.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Borrow {
    #[prost(uint64, tag = "1")]
    pub(super) ask: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) share: Option<Share>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Share {
    /// A task's run; otherwise a model that stays.
    #[prost(bool, tag = "1")]
    pub(super) running: bool,
    #[prost(uint64, tag = "2")]
    pub(super) bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KernelRan {
    #[prost(uint64, tag = "1")]
    pub(super) task: u64,
    #[prost(string, tag = "2")]
    pub(super) way: String,
    #[prost(uint64, tag = "3")]
    pub(super) products: u64,
    #[prost(uint64, tag = "4")]
    pub(super) nanoseconds: u64,
}

/// A run of a way of a layer, for the trace of the task.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SpanBegins {
    #[prost(uint64, tag = "1")]
    pub(super) task: u64,
    #[prost(uint64, tag = "2")]
    pub(super) span: u64,
    #[prost(string, tag = "3")]
    pub(super) layer: String,
    #[prost(string, tag = "4")]
    pub(super) way: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct SpanEnds {
    #[prost(uint64, tag = "1")]
    pub(super) task: u64,
    #[prost(uint64, tag = "2")]
    pub(super) span: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Done {
    #[prost(uint64, tag = "1")]
    pub(super) task: u64,
    #[prost(oneof = "done::Kind", tags = "2, 3")]
    pub(super) kind: Option<done::Kind>,
}

pub(super) mod done {
    use super::{Failure, Oneof, Output};

    #[derive(Clone, PartialEq, Oneof)]
    pub(in super::super) enum Kind {
        #[prost(message, tag = "2")]
        Output(Output),
        #[prost(message, tag = "3")]
        Failed(Failure),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Output {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) result: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub(super) events: Vec<EventDetail>,
    #[prost(oneof = "output::Next", tags = "3, 4")]
    pub(super) next: Option<output::Next>,
}

pub(super) mod output {
    use super::{Files, Oneof, Stage};

    #[derive(Clone, PartialEq, Oneof)]
    pub(in super::super) enum Next {
        #[prost(message, tag = "3")]
        Stage(Stage),
        #[prost(message, tag = "4")]
        Finish(Files),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Stage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) maps: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) reduce: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) seconds: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Files {
    #[prost(message, repeated, tag = "1")]
    pub(super) files: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct File {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) digest: String,
    #[prost(uint64, tag = "3")]
    pub(super) size: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Failure {
    #[prost(string, tag = "1")]
    pub(super) code: String,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(bool, tag = "3")]
    pub(super) permanent: bool,
}

/// Writes one message.
///
/// # Errors
/// The socket's; a message of 4 GiB or more.
pub(super) fn write(to: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let mut frame = vec![0; 4];
    message.encode(&mut frame).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)
}

/// Reads one message; `None` at the end.
///
/// # Errors
/// The socket's; what is no message.
pub(super) fn read<M: Message + Default>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut frame)?;
    M::decode(frame.as_slice())
        .map(Some)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_through_and_an_end_in_one_is_an_error() {
        let order = Order {
            kind: Some(order::Kind::Run(Box::new(Run {
                task: 7,
                slot: 1,
                lease: Lease {
                    stage: "plan".to_owned(),
                    ..Lease::default()
                },
                payload: vec![0; 100_000],
                inputs: vec![Vec::new(), vec![1]],
            }))),
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &order).unwrap();
        write(&mut bytes, &Order::default()).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read::<Order>(&mut from).unwrap(), Some(order));
        assert_eq!(read::<Order>(&mut from).unwrap(), Some(Order::default()));
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
