//! Integer tensors as they flow in a CONVERTED run: int8 or int16 with one scale.

use dual16_nash::{
    dtype::IntDtype,
    elementwise::rescale_to,
    quantize::{NonFinite, Rounding, dequantize, quantize},
    requant::Rescale,
    scale::Scale,
};
use ndarray::IxDyn;

use crate::{Error, Result, error::KernelContext, plan::QParams, tensor::Tensor};

/// Elements of an integer tensor, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QData {
    /// int8.
    I8(Vec<i8>),
    /// int16.
    I16(Vec<i16>),
}

/// An integer tensor with one scale: it stands for `data * scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct QTensor {
    /// Elements.
    pub data: QData,
    /// Dimensions; their product is the number of elements.
    pub shape: Vec<usize>,
    /// Value of one step.
    pub scale: Scale,
}

/// Runs the same expression on the elements of either dtype.
macro_rules! each_dtype {
    ($data:expr, $elements:ident => $body:expr) => {
        match $data {
            $crate::qtensor::QData::I8($elements) => $body,
            $crate::qtensor::QData::I16($elements) => $body,
        }
    };
}
pub(crate) use each_dtype;

impl QTensor {
    /// Quantizes a float tensor, and tells how many of its values no integer stands for; `name` is
    /// for the error.
    pub fn quantize(
        name: &str,
        tensor: &Tensor,
        params: QParams,
        rounding: Rounding,
    ) -> Result<(QTensor, NonFinite)> {
        let scale = Scale::new(params.scale).of(name)?;
        let standard = tensor.as_standard_layout();
        let values = standard.as_slice().unwrap_or_default();
        let (data, found) = match params.dtype {
            IntDtype::Int8 => {
                let mut data = vec![0; values.len()];
                let found = quantize(values, scale, rounding, &mut data).of(name)?;
                (QData::I8(data), found)
            }
            IntDtype::Int16 => {
                let mut data = vec![0; values.len()];
                let found = quantize(values, scale, rounding, &mut data).of(name)?;
                (QData::I16(data), found)
            }
        };
        let quantized = QTensor {
            data,
            shape: tensor.shape().to_vec(),
            scale,
        };
        Ok((quantized, found))
    }

    /// `q * s` in f32.
    pub fn dequantize(&self) -> Tensor {
        let mut values = vec![0.0; self.len()];
        // The buffer has the data's own length, the only thing that could be wrong.
        let fits = each_dtype!(&self.data, data => dequantize(data, self.scale, &mut values));
        debug_assert!(fits.is_ok());
        Tensor::from_shape_vec(IxDyn(&self.shape), values).unwrap_or_default()
    }

    /// The same values in another dtype and scale.
    pub fn requantize(&self, name: &str, params: QParams) -> Result<QTensor> {
        let scale = Scale::new(params.scale).of(name)?;
        let rescale = Rescale::between(self.scale, scale);
        let data = each_dtype!(&self.data, data => match params.dtype {
            IntDtype::Int8 => {
                let mut y = vec![0i8; data.len()];
                rescale_to(data, rescale, &mut y).of(name)?;
                QData::I8(y)
            }
            IntDtype::Int16 => {
                let mut y = vec![0i16; data.len()];
                rescale_to(data, rescale, &mut y).of(name)?;
                QData::I16(y)
            }
        });
        Ok(QTensor {
            data,
            shape: self.shape.clone(),
            scale,
        })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each_dtype!(&self.data, data => data.len())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements' type.
    pub fn dtype(&self) -> IntDtype {
        match self.data {
            QData::I8(_) => IntDtype::Int8,
            QData::I16(_) => IntDtype::Int16,
        }
    }

    /// The elements as int16, which holds both dtypes.
    pub fn to_i16(&self) -> std::borrow::Cow<'_, [i16]> {
        match &self.data {
            QData::I8(data) => data.iter().map(|&q| q.into()).collect::<Vec<i16>>().into(),
            QData::I16(data) => data.into(),
        }
    }

    /// The elements as int16, or an error that names who needs them.
    pub fn as_i16(&self, name: &str) -> Result<&[i16]> {
        match &self.data {
            QData::I16(data) => Ok(data),
            QData::I8(_) => Err(Error::FloatRun {
                node: name.to_owned(),
                reason: "an int16 tensor is needed and an int8 one was given".to_owned(),
            }),
        }
    }
}
