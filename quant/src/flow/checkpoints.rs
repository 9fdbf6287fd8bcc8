//! How far the float runs of a job's batches got. Groups of layers are measured one after the other, and
//! the run of each would begin at the model's inputs; from a checkpoint it begins where an earlier one ended.
//! They lie in temporary files, so that no task holds more for them than those of one batch. They come and go
//! as they may: a run without one makes the same figures.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ndarray::{ArrayD, IxDyn};
use tempfile::TempDir;

use super::FileRef;
use crate::{
    batch::Batch,
    tensor::{Datum, append_le},
};

/// Bytes of a job's checkpoints, at most. What does not fit is computed again.
const BYTES: u64 = 256 << 20;
/// Checkpoints of a batch: of the group that is measured, and of one beside it.
const OF_A_BATCH: usize = 2;

/// A batch of a job: the digest of its file and its number there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BatchId {
    pub(super) file: String,
    pub(super) number: usize,
}

impl BatchId {
    /// The first batch of a file.
    pub(super) fn first(file: &FileRef) -> Self {
        Self {
            file: file.digest.clone(),
            number: 0,
        }
    }
}

/// The checkpoints of a job.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Of each batch, the newest last.
    of: HashMap<BatchId, VecDeque<Arc<Checkpoint>>>,
    /// Bytes of all.
    bytes: u64,
    written: u64,
    folder: Option<Arc<TempDir>>,
}

/// What the nodes behind it need of those before it.
#[derive(Debug)]
struct Checkpoint {
    /// Nodes before it.
    nodes: usize,
    values: Vec<Value>,
    file: PathBuf,
    bytes: u64,
    /// Holds the file.
    _folder: Arc<TempDir>,
}

#[derive(Debug)]
struct Value {
    name: String,
    kind: Kind,
    shape: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    F32,
    I32,
    I8,
    U8,
}

impl Checkpoints {
    /// The furthest checkpoint of a batch that will do: a run may begin behind so many nodes with these values.
    pub(super) fn furthest(
        &self,
        batch: &BatchId,
        will_do: impl Fn(usize, &dyn Fn(&str) -> bool) -> bool,
    ) -> Option<Batch> {
        let known: Vec<Arc<Checkpoint>> = {
            let state = self.lock();
            let of = state.of.get(batch).into_iter().flatten();
            of.filter(|known| {
                let holds = |name: &str| known.values.iter().any(|value| value.name == name);
                will_do(known.nodes, &holds)
            })
            .cloned()
            .collect()
        };
        let furthest = known.iter().max_by_key(|known| known.nodes)?;
        // A file that is gone was in nobody's way.
        furthest.read().ok()
    }

    /// Keeps what a run got to behind so many nodes, in place of the oldest of the batch.
    pub(super) fn keep<'d>(
        &self,
        batch: &BatchId,
        nodes: usize,
        values: impl Iterator<Item = (&'d str, &'d Datum)>,
    ) {
        let values: Vec<(&str, &Datum)> = values.collect();
        if values.is_empty() {
            return;
        }
        let bytes = values
            .iter()
            .map(|(_, datum)| datum.byte_len() as u64)
            .sum();
        let Some((file, folder)) = self.lock().room(batch, nodes, bytes) else {
            return;
        };
        // The disk may be full, which is no matter of figures.
        if write(&file, &values).is_err() {
            let _ = fs::remove_file(&file);
            return;
        }
        let of = |&(name, datum): &(&str, &Datum)| Value {
            name: name.to_owned(),
            kind: Kind::of(datum),
            shape: datum.shape().to_vec(),
        };
        let checkpoint = Checkpoint {
            nodes,
            values: values.iter().map(of).collect(),
            file,
            bytes,
            _folder: folder,
        };
        let mut state = self.lock();
        state.bytes += bytes;
        let known = state.of.entry(batch.clone()).or_default();
        known.push_back(Arc::new(checkpoint));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A file for a checkpoint of so many bytes, where there is room and it is not known.
    fn room(
        &mut self,
        batch: &BatchId,
        nodes: usize,
        bytes: u64,
    ) -> Option<(PathBuf, Arc<TempDir>)> {
        let known = self.of.entry(batch.clone()).or_default();
        if known.iter().any(|known| known.nodes == nodes) {
            return None;
        }
        while known.len() >= OF_A_BATCH
            && let Some(oldest) = known.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
        }
        if self.bytes.saturating_add(bytes) > BYTES {
            return None;
        }
        let folder = match &self.folder {
            Some(folder) => Arc::clone(folder),
            None => Arc::clone(self.folder.insert(Arc::new(tempfile::tempdir().ok()?))),
        };
        self.written += 1;
        Some((folder.path().join(self.written.to_string()), folder))
    }
}

impl Checkpoint {
    fn read(&self) -> io::Result<Batch> {
        let bytes = fs::read(&self.file)?;
        let mut rest = bytes.as_slice();
        let values = self.values.iter().map(|value| {
            let length = value.shape.iter().product::<usize>() * value.kind.width();
            let (own, others) = rest
                .split_at_checked(length)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            rest = others;
            Ok((value.name.clone(), value.of(own).map_err(io::Error::other)?))
        });
        values.collect()
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        // What cannot be removed goes with the folder.
        let _ = fs::remove_file(&self.file);
    }
}

impl Kind {
    fn of(datum: &Datum) -> Self {
        match datum {
            Datum::F32(_) => Kind::F32,
            Datum::I32(_) => Kind::I32,
            Datum::I8(_) => Kind::I8,
            Datum::U8(_) => Kind::U8,
        }
    }

    const fn width(self) -> usize {
        match self {
            Kind::F32 | Kind::I32 => 4,
            Kind::I8 | Kind::U8 => 1,
        }
    }
}

impl Value {
    fn of(&self, bytes: &[u8]) -> Result<Datum, ndarray::ShapeError> {
        fn array<const N: usize, T>(
            shape: &[usize],
            bytes: &[u8],
            element: impl Fn([u8; N]) -> T,
        ) -> Result<ArrayD<T>, ndarray::ShapeError> {
            let elements = bytes.as_chunks().0.iter().copied().map(element);
            ArrayD::from_shape_vec(IxDyn(shape), elements.collect())
        }
        let shape = &self.shape;
        Ok(match self.kind {
            Kind::F32 => Datum::F32(array(shape, bytes, f32::from_le_bytes)?),
            Kind::I32 => Datum::I32(array(shape, bytes, i32::from_le_bytes)?),
            Kind::I8 => Datum::I8(array(shape, bytes, i8::from_le_bytes)?),
            Kind::U8 => Datum::U8(array(shape, bytes, u8::from_le_bytes)?),
        })
    }
}

fn write(file: &std::path::Path, values: &[(&str, &Datum)]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(values.iter().map(|(_, datum)| datum.byte_len()).sum());
    for (_, datum) in values {
        match datum {
            Datum::F32(array) => append_le(&mut bytes, array.iter(), f32::to_le_bytes),
            Datum::I32(array) => append_le(&mut bytes, array.iter(), i32::to_le_bytes),
            Datum::I8(array) => append_le(&mut bytes, array.iter(), i8::to_le_bytes),
            Datum::U8(array) => bytes.extend(array.iter()),
        }
    }
    fs::write(file, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: usize) -> BatchId {
        BatchId {
            file: "a".to_owned(),
            number,
        }
    }

    fn floats(values: &[f32]) -> Datum {
        Datum::F32(ArrayD::from_shape_vec(IxDyn(&[1, values.len()]), values.to_vec()).unwrap())
    }

    #[test]
    fn a_checkpoint_gives_the_values_back_to_the_bit_and_the_furthest_that_will_do() {
        let checkpoints = Checkpoints::default();
        let odd = floats(&[-0.0, f32::from_bits(0x7fc0_1234), f32::MIN_POSITIVE / 2.0]);
        let whole = Datum::I32(ArrayD::from_shape_vec(IxDyn(&[2]), vec![-1, i32::MAX]).unwrap());
        let small = Datum::I8(ArrayD::from_shape_vec(IxDyn(&[]), vec![-128]).unwrap());
        let bytes = Datum::U8(ArrayD::from_shape_vec(IxDyn(&[0, 3]), vec![]).unwrap());
        let values = [
            ("odd", &odd),
            ("whole", &whole),
            ("small", &small),
            ("bytes", &bytes),
        ];
        checkpoints.keep(&batch(0), 3, values.into_iter());
        checkpoints.keep(&batch(0), 9, [("odd", &odd)].into_iter());
        let get = |number, most| {
            checkpoints.furthest(&batch(number), |nodes, holds| nodes <= most && holds("odd"))
        };
        let got = get(0, 8).unwrap();
        assert_eq!(got.len(), 4);
        let bits = |datum: &Datum| -> Vec<u32> {
            datum
                .as_f32()
                .unwrap()
                .iter()
                .map(|x| x.to_bits())
                .collect()
        };
        assert_eq!(bits(&got["odd"]), bits(&odd));
        assert_eq!(
            (&got["whole"], &got["small"], &got["bytes"]),
            (&whole, &small, &bytes)
        );
        assert_eq!(get(0, 9).unwrap().len(), 1);
        assert!(get(0, 2).is_none() && get(1, 9).is_none());
    }

    #[test]
    fn older_ones_go_and_their_files_with_them() {
        let checkpoints = Checkpoints::default();
        let value = floats(&[1.0; 100]);
        for nodes in 0..7 {
            checkpoints.keep(&batch(0), nodes, [("x", &value)].into_iter());
        }
        let (folder, bytes) = {
            let state = checkpoints.lock();
            (
                state.folder.as_ref().unwrap().path().to_owned(),
                state.bytes,
            )
        };
        assert_eq!(bytes, 2 * 400);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        drop(checkpoints);
        assert!(!folder.exists());
    }
}
