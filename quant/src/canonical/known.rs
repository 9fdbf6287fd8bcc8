//! What is known of a graph while its nodes are rewritten in order: types and shapes of the values
//! made so far, and the constants. Rewrites read it and nothing else.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ndarray::ArrayD;

use super::{followed::followed, moved::Moved, refusal::Refusal};
use crate::{
    onnx::{DataType, ExternalData, NodeProto, Payload, TensorProto, ValueInfoProto},
    tensor::Tensor,
};

/// Constants of at most so many elements are looked into while rewriting; larger ones are weights.
const SMALL: usize = 4096;

/// Elements of a vector that follows from lengths, at most.
const FOLLOWED: usize = 64;

/// Type of a value, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueType {
    /// Element type; `Undefined` where it is not known.
    pub(super) elem: DataType,
    /// None = even the rank is unknown; None within = that length is.
    pub(super) shape: Option<Vec<Option<usize>>>,
}

impl ValueType {
    /// Nothing is known.
    pub(super) const UNKNOWN: ValueType = ValueType {
        elem: DataType::Undefined,
        shape: None,
    };

    /// What a file declares; None where it declares no tensor.
    pub(super) fn declared(value: &ValueInfoProto) -> Option<ValueType> {
        let tensor = value.r#type.as_ref()?.tensor_type.as_ref()?;
        let length = |value: Option<i64>| usize::try_from(value?).ok();
        let shape = tensor.shape.as_ref().map(|shape| {
            let lengths = shape.dim.iter().map(|dim| length(dim.dim_value));
            lengths.collect()
        });
        let elem = DataType::try_from(tensor.elem_type).unwrap_or(DataType::Undefined);
        Some(ValueType { elem, shape })
    }
}

/// What is known at some node.
#[derive(Debug, Clone)]
pub(super) struct Known<'a> {
    /// Version of the standard operator set that the nodes were written for.
    pub(super) opset: i64,
    /// Whether the graph is the body of an If, Loop or Scan.
    pub(super) nested: bool,
    values: HashMap<String, ValueType>,
    /// What the file says about values, believed only where nothing else is known.
    declared: HashMap<String, ValueType>,
    constants: HashMap<String, Arc<TensorProto>>,
    /// Types that constants had in the file, where the form has a wider one.
    narrow: HashMap<String, DataType>,
    /// Nodes that only move the elements of a constant of floats, by what they make.
    moved: HashMap<String, Moved>,
    /// Values that follow from the lengths of tensors and small constants alone.
    lengths: HashSet<String>,
    /// Small vectors of integers and booleans that follow from lengths which the file fixes; None within
    /// where one is open.
    followed: HashMap<String, Vec<Option<i64>>>,
    /// Values that are doubles in the file and floats in the form.
    doubles: HashSet<String>,
    /// Names of those that are the graph's own, not those around it.
    own: Vec<String>,
    pub(super) external: &'a ExternalData,
}

impl<'a> Known<'a> {
    pub(super) fn new(opset: i64, external: &'a ExternalData) -> Known<'a> {
        Known {
            opset,
            nested: false,
            values: HashMap::new(),
            declared: HashMap::new(),
            constants: HashMap::new(),
            narrow: HashMap::new(),
            moved: HashMap::new(),
            lengths: HashSet::new(),
            followed: HashMap::new(),
            doubles: HashSet::new(),
            own: Vec::new(),
            external,
        }
    }

    /// What the body of a node of this graph sees.
    pub(super) fn within(&self) -> Known<'a> {
        Known {
            nested: true,
            own: Vec::new(),
            ..self.clone()
        }
    }

    pub(super) fn declare(&mut self, value: &ValueInfoProto) {
        if let Some(of) = ValueType::declared(value) {
            self.declared.insert(value.name.clone(), of);
        }
    }

    /// A value that the graph is given.
    pub(super) fn given(&mut self, value: &ValueInfoProto) {
        let of = ValueType::declared(value).unwrap_or(ValueType::UNKNOWN);
        self.constants.remove(&value.name);
        self.moved.remove(&value.name);
        self.followed.remove(&value.name);
        self.lengths.remove(&value.name);
        self.values.insert(value.name.clone(), of);
    }

    pub(super) fn made(&mut self, name: &str, of: ValueType) {
        self.constants.remove(name);
        self.moved.remove(name);
        self.followed.remove(name);
        self.lengths.remove(name);
        self.values.insert(name.to_owned(), of);
    }

    pub(super) fn constant(&mut self, tensor: TensorProto) {
        let shape = tensor.shape().ok();
        let of = ValueType {
            elem: tensor.element_type(),
            shape: shape.map(|shape| shape.into_iter().map(Some).collect()),
        };
        self.values.insert(tensor.name.clone(), of);
        self.own.push(tensor.name.clone());
        self.constants.insert(tensor.name.clone(), Arc::new(tensor));
    }

    /// Notes which type a constant had in the file.
    pub(super) fn was(&mut self, name: &str, elem: DataType) {
        self.narrow.insert(name.to_owned(), elem);
    }

    /// Element type, for a constant the one it had in the file.
    pub(super) fn narrow(&self, name: &str) -> DataType {
        let narrow = self.narrow.get(name).copied();
        narrow.unwrap_or_else(|| self.elem(name))
    }

    pub(super) fn is_double_now(&mut self, name: &str) {
        self.doubles.insert(name.to_owned());
    }

    /// Whether a value holds doubles in the file.
    pub(super) fn is_double(&self, name: &str) -> bool {
        self.doubles.contains(name) || self.elem(name) == DataType::Double
    }

    pub(super) fn is_length_now(&mut self, name: &str) {
        self.lengths.insert(name.to_owned());
    }

    /// Whether a value follows from lengths of tensors and small constants alone, so that calculating
    /// with it does not leave 32 bits.
    pub(super) fn is_length(&self, name: &str) -> bool {
        const LARGE: i64 = 1 << 30;
        if self.elem(name) == DataType::Bool || self.lengths.contains(name) {
            return true;
        }
        if let Some(ints) = self.ints(name) {
            return ints.iter().all(|x| (-LARGE..LARGE).contains(x));
        }
        let floats = self.floats(name);
        floats.is_some_and(|floats| floats.iter().all(|x| x.abs() < LARGE as f32))
    }

    /// The constants of the graph, once it is done, in the order they were met.
    pub(super) fn into_constants(mut self) -> Vec<TensorProto> {
        let own = std::mem::take(&mut self.own);
        let taken = own.iter().filter_map(|name| self.constants.remove(name));
        taken.map(Arc::unwrap_or_clone).collect()
    }

    pub(super) fn value(&self, name: &str) -> ValueType {
        let inferred = self.values.get(name);
        let declared = self.declared.get(name);
        let mut found = inferred.or(declared).cloned().unwrap_or(ValueType::UNKNOWN);
        if let Some(declared) = declared {
            if found.elem == DataType::Undefined {
                found.elem = declared.elem;
            }
            if found.shape.is_none() {
                found.shape.clone_from(&declared.shape);
            }
        }
        found
    }

    /// Element type; `Undefined` where it is not known.
    pub(super) fn elem(&self, name: &str) -> DataType {
        self.value(name).elem
    }

    pub(super) fn is_float(&self, name: &str) -> bool {
        is_float(self.elem(name))
    }

    /// Whether a value holds integers, booleans not counted.
    pub(super) fn is_integer(&self, name: &str) -> bool {
        is_integer(self.elem(name))
    }

    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        self.value(name).shape.map(|shape| shape.len())
    }

    /// Lengths as they follow from the graph's inputs, whatever the file declares of values between.
    pub(super) fn inferred_shape(&self, name: &str) -> Option<Vec<Option<usize>>> {
        self.values.get(name)?.shape.clone()
    }

    /// Lengths, where every one is known.
    pub(super) fn dims(&self, name: &str) -> Option<Vec<usize>> {
        self.value(name).shape?.into_iter().collect()
    }

    pub(super) fn is_constant(&self, name: &str) -> bool {
        self.constants.contains_key(name)
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.constants.get(name).map(AsRef::as_ref)
    }

    /// Elements of a small constant of integers or booleans.
    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.small(name)?;
        let elements: ArrayD<i64> = self.read(tensor, |tensor, at| tensor.to_i64(at))?;
        Some(elements.into_iter().collect())
    }

    /// The same of a vector that follows from fixed lengths, None within where an element is open.
    pub(super) fn followed(&self, name: &str) -> Option<Vec<Option<i64>>> {
        match self.followed.get(name) {
            Some(elements) => Some(elements.clone()),
            None => Some(self.ints(name)?.into_iter().map(Some).collect()),
        }
    }

    /// Notes what a node makes of them, its outputs being known otherwise.
    pub(super) fn follows(&mut self, node: &NodeProto) {
        if let (Some(name), Some(made)) = (node.output.first(), followed(self, node))
            && made.len() <= FOLLOWED
            && made.iter().any(Option::is_some)
        {
            self.followed.insert(name.clone(), made);
        }
    }

    /// Elements of a small constant of floats, rounded to f32 where wider.
    pub(super) fn floats(&self, name: &str) -> Option<Tensor> {
        let tensor = self.small(name)?;
        self.read(tensor, |tensor, at| tensor.to_f32(at))
    }

    /// The one element of a constant, of any number type.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        if let Some(floats) = self.floats(name) {
            return match floats.as_slice() {
                Some(&[one]) => Some(f64::from(one)),
                _ => None,
            };
        }
        match self.ints(name)?.as_slice() {
            &[one] => Some(one as f64),
            _ => None,
        }
    }

    /// Notes a node whose outputs are known already and which may move a constant.
    pub(super) fn moves(&mut self, node: &NodeProto) {
        let (Some(of), Some(name)) = (node.input.first(), node.output.first()) else {
            return;
        };
        if !self.is_weight(of) || !self.is_float(name) {
            return;
        }
        if let Some(moved) = Moved::of(node, self.moved.get(of)) {
            self.moved.insert(name.clone(), moved);
        }
    }

    /// Whether a value is a constant of floats, as it is or moved.
    pub(super) fn is_weight(&self, name: &str) -> bool {
        self.is_constant(name) && self.is_float(name) || self.moved.contains_key(name)
    }

    /// Elements of a constant of floats of any size, moved ones included.
    pub(super) fn all_floats(&self, name: &str) -> Option<Tensor> {
        let Some(moved) = self.moved.get(name) else {
            return self.read(self.constants.get(name)?, |tensor, at| tensor.to_f32(at));
        };
        moved.apply(self.all_floats(moved.of_value()?)?, self)
    }

    /// Bytes or elements of a constant, wherever they are.
    pub(super) fn read<T, E>(
        &self,
        tensor: &TensorProto,
        read: impl FnOnce(&TensorProto, Payload<'_>) -> Result<T, E>,
    ) -> Option<T> {
        if !tensor.is_external() {
            return read(tensor, Payload::Inline).ok();
        }
        let bytes = self.external.read(&tensor.name, tensor).ok()?;
        read(tensor, Payload::External(&bytes)).ok()
    }

    fn small(&self, name: &str) -> Option<&TensorProto> {
        let tensor = self.constants.get(name)?;
        let elements: usize = tensor.shape().ok()?.iter().product();
        (elements <= SMALL).then_some(tensor)
    }

    /// An axis counted from the front.
    pub(super) fn axis(&self, name: &str, axis: i64) -> Result<usize, Refusal> {
        let rank = self.rank(name).ok_or_else(|| {
            Refusal::new(format!(
                "the rank of '{name}' is not known; declare its shape in the model, as \
                 onnx.shape_inference does"
            ))
        })?;
        counted(axis, rank).ok_or_else(|| {
            Refusal::new(format!("axis {axis} is none of '{name}', which has {rank}"))
        })
    }
}

/// An axis counted from the front, if there are so many.
pub(super) fn counted(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank } else { axis };
    usize::try_from(axis).ok().filter(|_| axis < rank)
}

pub(super) fn is_float(elem: DataType) -> bool {
    use DataType::{
        Bfloat16, Double, Float, Float4e2m1, Float8e4m3fn, Float8e4m3fnuz, Float8e5m2,
        Float8e5m2fnuz, Float16,
    };
    matches!(
        elem,
        Float
            | Float16
            | Bfloat16
            | Double
            | Float8e4m3fn
            | Float8e4m3fnuz
            | Float8e5m2
            | Float8e5m2fnuz
            | Float4e2m1
    )
}

pub(super) fn is_integer(elem: DataType) -> bool {
    use DataType::{Int4, Int8, Int16, Int32, Int64, Uint4, Uint8, Uint16, Uint32, Uint64};
    matches!(
        elem,
        Int4 | Int8 | Int16 | Int32 | Int64 | Uint4 | Uint8 | Uint16 | Uint32 | Uint64
    )
}
