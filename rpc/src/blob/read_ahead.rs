//! From a file into chunks.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    task::spawn_blocking,
};

use super::CHUNKS_IN_FLIGHT;

type Slot<E> = OwnedPermit<Result<Bytes, E>>;

/// The next `limit` bytes of `file` in chunks of `chunk_bytes`, the last one shorter; fewer if the
/// file ends before. After an error nothing follows.
///
/// The file is read on blocking threads, [`CHUNKS_IN_FLIGHT`] ahead of the receiver at most. While
/// the receiver is slow no thread waits for it: any number of slow readers may be held at once. A
/// dropped receiver ends the reading.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn read_ahead<E>(
    file: impl Read + Send + 'static,
    limit: u64,
    chunk_bytes: usize,
) -> mpsc::Receiver<Result<Bytes, E>>
where
    E: From<io::Error> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let mut source = Source {
        file,
        left: limit,
        chunk_bytes,
        given: VecDeque::new(),
    };
    tokio::spawn(async move {
        // A slot first: nothing is read that the channel could not hold.
        while let Ok(slot) = sender.clone().reserve_owned().await {
            match spawn_blocking(move || source.fill(slot)).await {
                Ok(Some(rest)) => source = rest,
                // The end, an error that was passed on, or a runtime that stops.
                Ok(None) | Err(_) => return,
            }
        }
    });
    receiver
}

struct Source<R> {
    file: R,
    left: u64,
    chunk_bytes: usize,
    /// The newest chunks given out, oldest first, to be filled again once their readers have
    /// dropped them: a new buffer of this size is new pages of the system, which are not for free.
    given: VecDeque<Bytes>,
}

impl<R: Read> Source<R> {
    /// Reads for as long as there are slots; `None` when there is nothing more to read.
    fn fill<E: From<io::Error>>(mut self, mut slot: Slot<E>) -> Option<Self> {
        loop {
            let sender = match self.chunk() {
                Ok(chunk) if chunk.is_empty() => return None,
                Ok(chunk) => slot.send(Ok(chunk)),
                Err(error) => {
                    slot.send(Err(error.into()));
                    return None;
                }
            };
            match sender.try_reserve_owned() {
                Ok(next) => slot = next,
                Err(_) => return Some(self),
            }
        }
    }

    /// The next chunk; empty at the end.
    fn chunk(&mut self) -> io::Result<Bytes> {
        let want = self.left.min(self.chunk_bytes as u64);
        let mut buffer = self.buffer(usize::try_from(want).unwrap_or(self.chunk_bytes));
        self.file.by_ref().take(want).read_to_end(&mut buffer)?;
        self.left -= buffer.len() as u64;
        let chunk = Bytes::from(buffer);
        if self.given.len() > CHUNKS_IN_FLIGHT {
            self.given.pop_front();
        }
        self.given.push_back(chunk.clone());
        Ok(chunk)
    }

    /// An empty buffer for `bytes` bytes.
    fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        let used = self.given.pop_front_if(|chunk| chunk.is_unique());
        let mut buffer = used.map_or_else(Vec::new, Vec::from);
        buffer.clear();
        buffer.reserve_exact(bytes);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Seek as _, time::Duration};

    use super::*;

    const CHUNK: usize = 1000;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    async fn lengths(file: File, limit: u64) -> (Vec<usize>, Vec<u8>) {
        let mut chunks = read_ahead::<io::Error>(file, limit, CHUNK);
        let (mut lengths, mut all) = (Vec::new(), Vec::new());
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk.unwrap();
            lengths.push(chunk.len());
            all.extend_from_slice(&chunk);
        }
        (lengths, all)
    }

    #[tokio::test]
    async fn chunks_are_full_but_the_last_and_in_order() {
        let all = bytes(2 * CHUNK + 5);
        let whole = lengths(file_of(&all), u64::MAX).await;
        assert_eq!(whole, (vec![CHUNK, CHUNK, 5], all.clone()));
        let limited = lengths(file_of(&all), 1500).await;
        assert_eq!(limited, (vec![CHUNK, 500], all[..1500].to_vec()));
        assert_eq!(lengths(file_of(&[]), 10).await, (vec![], vec![]));
        assert_eq!(lengths(file_of(&all), 0).await, (vec![], vec![]));
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_read_stops_the_reading() {
        let file = file_of(&bytes(100 * CHUNK));
        // The clone has the same position.
        let mut position = file.try_clone().unwrap();
        let mut chunks = read_ahead::<io::Error>(file, u64::MAX, CHUNK);
        let bound = (CHUNKS_IN_FLIGHT * CHUNK) as u64;
        while position.stream_position().unwrap() < bound {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(position.stream_position().unwrap(), bound);
        assert_eq!(chunks.recv().await.unwrap().unwrap().len(), CHUNK);
    }

    #[tokio::test]
    async fn an_error_is_passed_on_and_is_the_last() {
        // A folder can be opened but not read.
        let folder = File::open(std::env::temp_dir()).unwrap();
        let mut chunks = read_ahead::<io::Error>(folder, 10, CHUNK);
        assert!(chunks.recv().await.unwrap().is_err());
        assert!(chunks.recv().await.is_none());
    }
}
