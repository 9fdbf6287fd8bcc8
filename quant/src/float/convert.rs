//! Tensors to and from rten. Both sides are dense and row-major, so no element is copied.

use ndarray::{ArrayBase, ArrayD, Data, IxDyn};
use rten::{Value, ValueOrView, ValueView};
use rten_tensor::{Layout as _, TensorView};

use crate::{
    error::{Error, Result},
    tensor::{Datum, SharedTensor},
};

/// Borrows a tensor.
pub(super) fn to_rten(datum: &Datum) -> Result<ValueOrView<'_>> {
    Ok(match datum {
        Datum::F32(array) => view(array)?.into(),
        Datum::I32(array) => view(array)?.into(),
        Datum::I8(array) => view(array)?.into(),
        Datum::U8(array) => view(array)?.into(),
    })
}

/// Borrows a float tensor.
pub(super) fn floats_to_rten(array: &SharedTensor) -> Result<ValueOrView<'_>> {
    Ok(view(array)?.into())
}

/// A tensor as rten's own.
pub(super) fn into_rten(datum: Datum) -> Value {
    fn tensor<T: Clone>(array: ArrayD<T>) -> rten_tensor::Tensor<T> {
        let shape = array.shape().to_vec();
        let elements = array
            .as_standard_layout()
            .iter()
            .cloned()
            .collect::<Vec<T>>();
        rten_tensor::Tensor::from_data(&shape, elements)
    }
    match datum {
        Datum::F32(array) => Value::FloatTensor(tensor(array)),
        Datum::I32(array) => Value::Int32Tensor(tensor(array)),
        Datum::I8(array) => Value::Int8Tensor(tensor(array)),
        Datum::U8(array) => Value::UInt8Tensor(tensor(array)),
    }
}

/// Takes a tensor over; None for a sequence.
pub(super) fn from_rten(value: Value) -> Option<Datum> {
    match value {
        Value::FloatTensor(tensor) => array(tensor).map(Datum::F32),
        Value::Int32Tensor(tensor) => array(tensor).map(Datum::I32),
        Value::Int8Tensor(tensor) => array(tensor).map(Datum::I8),
        Value::UInt8Tensor(tensor) => array(tensor).map(Datum::U8),
        _ => None,
    }
}

fn view<'a, T, S>(array: &'a ArrayBase<S, IxDyn>) -> Result<ValueView<'a>>
where
    S: Data<Elem = T>,
    ValueView<'a>: From<TensorView<'a, T>>,
{
    let failed = |reason: &str| Error::FloatRun {
        node: format!("a tensor of shape {:?}", array.shape()),
        reason: reason.to_owned(),
    };
    let elements = array
        .as_slice()
        .ok_or_else(|| failed("it is not in row-major layout"))?;
    let tensor = TensorView::try_from_data(array.shape(), elements)
        .map_err(|_| failed("rten refuses the shape"))?;
    Ok(tensor.into())
}

fn array<T: Clone>(tensor: rten_tensor::Tensor<T>) -> Option<ArrayD<T>> {
    let shape = tensor.shape().to_vec();
    ArrayD::from_shape_vec(shape, tensor.into_data()).ok()
}
