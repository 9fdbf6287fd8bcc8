//! The constants of a model in canonical form, decoded once and checked.

use std::{collections::HashMap, sync::Arc};

use dual16_nash::quantize::check_finite;
use ndarray::{ArrayD, Dimension as _};

use crate::{
    error::{Error, Result},
    onnx::{DataType, ExternalData, GraphProto, Payload, TensorError, TensorProto},
    tensor::{SharedTensor, Tensor},
};

/// One constant.
#[derive(Debug, Clone)]
pub(crate) enum Constant {
    /// Of a float type, rounded to f32 where wider.
    Floats(SharedTensor),
    /// Of any other type, its data in the message.
    Other(Arc<TensorProto>, Vec<usize>),
}

impl Constant {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Constant::Floats(tensor) => tensor.shape(),
            Constant::Other(_, shape) => shape,
        }
    }

    /// The elements, where they are floats.
    pub(crate) fn floats(&self) -> Option<&SharedTensor> {
        match self {
            Constant::Floats(tensor) => Some(tensor),
            Constant::Other(..) => None,
        }
    }

    /// The elements, where they are integers or booleans.
    pub(crate) fn integers(&self) -> Option<ArrayD<i64>> {
        match self {
            Constant::Floats(_) => None,
            Constant::Other(tensor, _) => tensor.to_i64(Payload::Inline).ok(),
        }
    }
}

/// Constants by name.
#[derive(Debug, Clone)]
pub(super) struct Constants(Arc<HashMap<String, Constant>>);

impl Constants {
    /// Takes every constant of a graph and checks that its data is there. `cancelled` is asked before
    /// each, for they may be large.
    pub(super) fn collect(
        file: &str,
        graph: &mut GraphProto,
        external: &ExternalData,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Constants> {
        let mut all = HashMap::with_capacity(graph.initializer.len());
        for tensor in std::mem::take(&mut graph.initializer) {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let name = tensor.name.clone();
            let constant = decoded(file, &name, tensor, external)?;
            if all.insert(name.clone(), constant).is_some() {
                let reason = format!("tensor '{name}' is there twice; names of values are unique");
                return Err(Error::Model {
                    file: file.to_owned(),
                    reason,
                });
            }
        }
        Ok(Constants(Arc::new(all)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Constant> {
        self.0.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Constant)> {
        self.0
            .iter()
            .map(|(name, constant)| (name.as_str(), constant))
    }
}

fn decoded(
    file: &str,
    name: &str,
    mut tensor: TensorProto,
    external: &ExternalData,
) -> Result<Constant> {
    let bad = |error: TensorError| Error::Model {
        file: file.to_owned(),
        reason: format!("tensor '{name}': {error}"),
    };
    if tensor.is_float() {
        let read = match tensor.is_external() {
            true => external.read_floats(name, &tensor)?,
            false => None,
        };
        let elements = match (read, tensor.is_external()) {
            (Some(elements), _) => elements,
            (None, false) => tensor.to_f32(Payload::Inline).map_err(bad)?,
            (None, true) => tensor
                .to_f32(Payload::External(&external.read(name, &tensor)?))
                .map_err(bad)?,
        };
        check(file, name, &elements)?;
        return Ok(Constant::Floats(elements.into_shared()));
    }
    if tensor.is_external() {
        tensor.raw_data = Some(external.read(name, &tensor)?.into());
        tensor.external_data.clear();
        tensor.data_location = 0;
    } else if let Some(bytes) = &tensor.raw_data {
        // A copy of its own: a part of the file's buffer would keep the whole of it.
        tensor.raw_data = Some(bytes.to_vec().into());
    }
    let shape = tensor.shape().map_err(bad)?;
    if matches!(
        tensor.element_type(),
        DataType::String | DataType::Undefined
    ) {
        return Ok(Constant::Other(Arc::new(tensor), shape));
    }
    tensor.to_i64(Payload::Inline).map_err(bad)?;
    Ok(Constant::Other(Arc::new(tensor), shape))
}

/// Infinities are let through: they are how exports write a mask. Whatever would have to quantize one
/// says so.
fn check(file: &str, name: &str, elements: &Tensor) -> Result<()> {
    // Most models pass here, and a look at each element with its index takes many times longer.
    if elements
        .as_slice()
        .is_some_and(|values| check_finite(values).is_ok())
    {
        return Ok(());
    }
    match elements.indexed_iter().find(|(_, x)| x.is_nan()) {
        None => Ok(()),
        Some((index, &value)) => Err(Error::NonFinite {
            file: file.to_owned(),
            tensor: name.to_owned(),
            value,
            index: index.as_array_view().to_vec(),
        }),
    }
}
