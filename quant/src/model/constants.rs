//! The constants of a model: initializers and the outputs of Constant nodes, kept encoded and
//! decoded when asked for.

use std::{collections::HashMap, sync::Arc};

use dual16_nash::quantize::check_finite;
use ndarray::{ArrayD, Dimension as _};

use super::external::ExternalData;
use crate::{
    error::{Error, Result},
    onnx::{AttributeProto, DataType, GraphProto, NodeProto, Payload, TensorError, TensorProto},
    tensor::Tensor,
};

/// Constants by name.
#[derive(Debug, Clone)]
pub(super) struct Constants(Arc<HashMap<String, TensorProto>>);

impl Constants {
    /// Takes every constant of a graph and checks that its data is there and finite. `cancelled` is
    /// asked before each, for they may be large.
    pub(super) fn collect(
        file: &str,
        graph: &GraphProto,
        external: &ExternalData,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Constants> {
        external.check_total(graph)?;
        let mut all = HashMap::with_capacity(graph.initializer.len());
        let initializers = graph
            .initializer
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.clone()));
        for (name, tensor) in initializers.chain(graph.node.iter().filter_map(constant_node)) {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            check(file, &name, &tensor, external)?;
            if all.contains_key(&name) {
                let reason = format!("tensor '{name}' is there twice; names of values are unique");
                return Err(Error::Model {
                    file: file.to_owned(),
                    reason,
                });
            }
            all.insert(name, tensor);
        }
        Ok(Constants(Arc::new(all)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&TensorProto> {
        self.0.get(name)
    }
}

/// Elements of a float constant.
pub(super) fn f32_elements(
    file: &str,
    name: &str,
    tensor: &TensorProto,
    external: &ExternalData,
) -> Result<Tensor> {
    with_payload(name, tensor, external, |payload| tensor.to_f32(payload))?
        .map_err(|error| bad_tensor(file, name, &error))
}

/// Elements of an integer constant; None if it is of another type.
pub(super) fn i64_elements(
    file: &str,
    name: &str,
    tensor: &TensorProto,
    external: &ExternalData,
) -> Result<Option<ArrayD<i64>>> {
    match with_payload(name, tensor, external, |payload| tensor.to_i64(payload))? {
        Ok(elements) => Ok(Some(elements)),
        Err(TensorError::Type { .. }) => Ok(None),
        Err(error) => Err(bad_tensor(file, name, &error)),
    }
}

fn with_payload<R>(
    name: &str,
    tensor: &TensorProto,
    external: &ExternalData,
    read: impl FnOnce(Payload<'_>) -> R,
) -> Result<R> {
    if !tensor.is_external() {
        return Ok(read(Payload::Inline));
    }
    let bytes = external.read(name, tensor)?;
    Ok(read(Payload::External(&bytes)))
}

fn check(file: &str, name: &str, tensor: &TensorProto, external: &ExternalData) -> Result<()> {
    if !tensor.is_float() {
        // Types that are neither float nor index are rten's business; it checks their length.
        return i64_elements(file, name, tensor, external).map(|_| ());
    }
    let elements = f32_elements(file, name, tensor, external)?;
    if elements.len() == 1 && !elements.iter().any(|x| x.is_nan()) {
        return Ok(());
    }
    // Most models pass here, and a look at each element with its index takes many times longer.
    if elements
        .as_slice()
        .is_some_and(|values| check_finite(values).is_ok())
    {
        return Ok(());
    }
    match elements.indexed_iter().find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some((index, &value)) => Err(Error::NonFinite {
            file: file.to_owned(),
            tensor: name.to_owned(),
            value,
            index: index.as_array_view().to_vec(),
        }),
    }
}

/// Output and value of a Constant node, whichever attribute holds it.
fn constant_node(node: &NodeProto) -> Option<(String, TensorProto)> {
    let standard = node.domain.is_empty() || node.domain == "ai.onnx";
    if !standard || node.op_type != "Constant" {
        return None;
    }
    let name = node.output.first()?;
    let tensor = node.attribute.iter().find_map(constant_value)?;
    Some((name.clone(), tensor))
}

fn constant_value(attribute: &AttributeProto) -> Option<TensorProto> {
    let floats = |dims, float_data| TensorProto {
        dims,
        float_data,
        data_type: DataType::Float.into(),
        ..TensorProto::default()
    };
    let ints = |dims, int64_data| TensorProto {
        dims,
        int64_data,
        data_type: DataType::Int64.into(),
        ..TensorProto::default()
    };
    match attribute.name.as_str() {
        "value" => attribute.t.clone(),
        "value_float" => Some(floats(vec![], vec![attribute.f?])),
        "value_floats" => Some(floats(
            vec![attribute.floats.len() as i64],
            attribute.floats.clone(),
        )),
        "value_int" => Some(ints(vec![], vec![attribute.i?])),
        "value_ints" => Some(ints(
            vec![attribute.ints.len() as i64],
            attribute.ints.clone(),
        )),
        _ => None,
    }
}

fn bad_tensor(file: &str, name: &str, error: &TensorError) -> Error {
    Error::Model {
        file: file.to_owned(),
        reason: format!("tensor '{name}': {error}"),
    }
}
