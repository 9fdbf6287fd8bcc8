//! The integers of one layer as a converted model stores them.

use std::borrow::Cow;

use dual16_nash::ways::Way;
use safetensors::{Dtype, View};

use crate::{graph::Linear, qtensor::QData, tensor::append_le};

/// Everything a chip needs of one Linear, by name without the layer's own.
#[derive(Debug)]
pub struct IntegerWeights<'a> {
    /// In the order they are written.
    pub parameters: Vec<Parameter<'a>>,
}

impl IntegerWeights<'_> {
    /// Bytes of the integers, scales not counted.
    pub(crate) fn bytes(&self) -> u64 {
        let integers =
            |parameter: &&Parameter<'_>| !matches!(parameter.data, ParameterData::F32(_));
        let integers = self.parameters.iter().filter(integers);
        integers.map(|parameter| parameter.data_len() as u64).sum()
    }
}

/// Bytes of the integers of a plain way, biases included.
pub(crate) fn weight_bytes(linear: &Linear, way: Way) -> u64 {
    let (planes, bias) = match way {
        Way::Split => (2, 4),
        Way::MulSum => (2, 2),
        way => (way.weight_dtype().bytes() as u64, 4),
    };
    let biases = linear.bias.as_ref().map_or(0, |bias| bias.len());
    linear.weight.len() as u64 * planes + biases as u64 * bias
}

/// One stored tensor.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// Name after the layer's name and a dot.
    pub name: &'static str,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: ParameterData<'a>,
}

/// Elements of a stored tensor.
#[derive(Debug)]
pub enum ParameterData<'a> {
    /// int8 weights.
    I8(&'a [i8]),
    /// int16 weights.
    I16(&'a [i16]),
    /// int32 biases.
    I32(&'a [i32]),
    /// Scales.
    F32(Vec<f32>),
}

impl<'a> Parameter<'a> {
    pub(super) fn quantized(name: &'static str, data: &'a QData, shape: Vec<usize>) -> Self {
        let data = match data {
            QData::I8(data) => ParameterData::I8(data),
            QData::I16(data) => ParameterData::I16(data),
        };
        Parameter { name, shape, data }
    }

    pub(super) fn int8(name: &'static str, data: &'a [i8], shape: Vec<usize>) -> Self {
        Parameter {
            name,
            shape,
            data: ParameterData::I8(data),
        }
    }

    pub(super) fn int16(name: &'static str, data: &'a [i16], shape: Vec<usize>) -> Self {
        Parameter {
            name,
            shape,
            data: ParameterData::I16(data),
        }
    }

    pub(super) fn bias32(name: &'static str, data: &'a [i32]) -> Self {
        Parameter {
            name,
            shape: vec![data.len()],
            data: ParameterData::I32(data),
        }
    }

    /// Whether it depends on the weight alone, so that all Linears of it have the same.
    pub(crate) fn is_of_weight(&self) -> bool {
        self.name.starts_with("weight")
    }

    pub(crate) fn scales(name: &'static str, scales: Vec<f32>) -> Self {
        Parameter {
            name,
            shape: vec![scales.len()],
            data: ParameterData::F32(scales),
        }
    }
}

impl View for &Parameter<'_> {
    fn dtype(&self) -> Dtype {
        match self.data {
            ParameterData::I8(_) => Dtype::I8,
            ParameterData::I16(_) => Dtype::I16,
            ParameterData::I32(_) => Dtype::I32,
            ParameterData::F32(_) => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.data {
            ParameterData::I8(data) => little_endian(data, |q| q.to_le_bytes()),
            ParameterData::I16(data) => little_endian(data, |q| q.to_le_bytes()),
            ParameterData::I32(data) => little_endian(data, |q| q.to_le_bytes()),
            ParameterData::F32(data) => little_endian(data, |x| x.to_le_bytes()),
        }
    }

    fn data_len(&self) -> usize {
        match &self.data {
            ParameterData::I8(data) => data.len(),
            ParameterData::I16(data) => 2 * data.len(),
            ParameterData::I32(data) => 4 * data.len(),
            ParameterData::F32(data) => 4 * data.len(),
        }
    }
}

fn little_endian<T: Copy, const N: usize>(
    data: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> Cow<'static, [u8]> {
    let mut le = Vec::new();
    append_le(&mut le, data.iter(), bytes);
    le.into()
}
