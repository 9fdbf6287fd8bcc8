//! The tensor types that cross module borders: dense, row-major, owned.

use ndarray::{ArcArray, ArrayD, IxDyn};

/// A float tensor of any rank in standard (row-major, contiguous) layout.
pub type Tensor = ArrayD<f32>;

/// A float constant whose elements everyone shares: the float engine, the graph, layers with one
/// weight. A transposed view of it is no copy.
pub type SharedTensor = ArcArray<f32, IxDyn>;

/// A value of a float run. Quantization only ever concerns [`Datum::F32`]; the rest are shapes,
/// indices and masks that travel along.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// A float tensor.
    F32(Tensor),
    /// An integer tensor (ONNX int64, int32 and bool all run as this in rten).
    I32(ArrayD<i32>),
    /// A signed byte tensor.
    I8(ArrayD<i8>),
    /// A byte tensor.
    U8(ArrayD<u8>),
}

/// Appends elements, little-endian, in the order that they come in.
pub(crate) fn append_le<'e, T: Copy + 'e, const N: usize>(
    bytes: &mut Vec<u8>,
    elements: impl ExactSizeIterator<Item = &'e T>,
    to_le: impl Fn(T) -> [u8; N],
) {
    let start = bytes.len();
    bytes.resize(start + N * elements.len(), 0);
    // Room made at once, and no look at it for each: the compiler makes copies of it.
    let (places, _) = bytes[start..].as_chunks_mut::<N>();
    places
        .iter_mut()
        .zip(elements)
        .for_each(|(place, &element)| *place = to_le(element));
}

impl Datum {
    /// The float tensor, if it is one.
    pub fn as_f32(&self) -> Option<&Tensor> {
        match self {
            Datum::F32(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Datum::F32(t) => t.shape(),
            Datum::I32(t) => t.shape(),
            Datum::I8(t) => t.shape(),
            Datum::U8(t) => t.shape(),
        }
    }

    /// Bytes of the elements.
    pub fn byte_len(&self) -> usize {
        match self {
            Datum::F32(t) => 4 * t.len(),
            Datum::I32(t) => 4 * t.len(),
            Datum::I8(t) => t.len(),
            Datum::U8(t) => t.len(),
        }
    }
}
