//! Kernels for what rten does otherwise than ONNX says or not at all, and for what only canonical
//! form has. They are small and exact; none is on the path of a large product. A node of the domain
//! "dual16" is run by the kernel of its name; those that make integers state their type in `elem`.

mod arithmetic;
mod boxes;
mod call;
mod cast;
mod convolution;
mod grid;
mod indexing;
mod integers;
mod loss;
mod pooling;
mod quantize;
mod recurrent;
mod reduce;
mod regions;
mod resize;
mod sampling;
mod scatter;
mod signal;
mod taps;
mod windows;

use crate::{
    canonical::OWN_DOMAIN,
    error::{Error, Result},
    model::OnnxNode,
    place,
    tensor::Datum,
};
use call::Call;

pub(crate) use taps::{Tap, Taps};

/// A kernel: operands and attributes in, a value for each output out.
type Kernel = fn(&Call<'_>) -> Made;

/// What a kernel makes, or why it cannot.
type Made = Result<Vec<Datum>, String>;

const KERNELS: &[(&str, Kernel)] = &[
    ("Abs", arithmetic::unary),
    ("Add", arithmetic::binary),
    ("AffineGrid", grid::affine),
    ("ArgMax", reduce::arg),
    ("ArgMin", reduce::arg),
    ("AveragePool", pooling::pool),
    ("BitShift", arithmetic::binary),
    ("BitwiseAnd", arithmetic::binary),
    ("BitwiseNot", arithmetic::unary),
    ("BitwiseOr", arithmetic::binary),
    ("BitwiseXor", arithmetic::binary),
    ("BlackmanWindow", signal::window),
    ("Cast", cast::cast),
    ("BitCast", cast::bits),
    ("CenterCropPad", indexing::center_crop_pad),
    ("Col2Im", convolution::col2im),
    ("Compress", indexing::compress),
    ("Conv", convolution::conv),
    ("ConvInteger", quantize::conv_integer),
    ("ConvTranspose", convolution::transposed),
    ("CumProd", reduce::cumulated),
    ("CumSum", reduce::cumulated),
    ("DFT", signal::dft),
    ("DeformConv", regions::deform_conv),
    ("DequantizeLinear", quantize::dequantize),
    ("Det", signal::det),
    ("Div", arithmetic::binary),
    ("DynamicQuantizeLinear", quantize::dynamic),
    ("GRU", recurrent::run),
    ("GridSample", sampling::grid_sample),
    ("HammingWindow", signal::window),
    ("HannWindow", signal::window),
    ("LRN", pooling::lrn),
    ("LSTM", recurrent::run),
    ("LpPool", pooling::pool),
    ("MatMul", integers::matmul),
    ("MatMulInteger", quantize::matmul_integer),
    ("MaxPool", pooling::pool),
    ("MaxUnpool", pooling::unpool),
    ("MelWeightMatrix", signal::mel),
    ("Mod", arithmetic::binary),
    ("Mul", arithmetic::binary),
    ("Narrow", cast::narrow),
    ("Neg", arithmetic::unary),
    ("NegativeLogLikelihoodLoss", loss::negative_log_likelihood),
    ("NonMaxSuppression", boxes::suppress),
    ("Pad", indexing::pad),
    ("Pow", arithmetic::binary),
    ("QuantizeLinear", quantize::quantize),
    ("RNN", recurrent::run),
    ("Range", integers::range),
    ("ReduceL1", reduce::integers),
    ("ReduceMean", reduce::integers),
    ("ReduceProd", reduce::integers),
    ("ReduceSum", reduce::integers),
    ("ReduceSumSquare", reduce::integers),
    ("Resize", resize::resize),
    ("RoiAlign", regions::roi_align),
    ("ScatterElements", scatter::elements),
    ("ScatterND", scatter::nd),
    ("SoftmaxCrossEntropyLoss", loss::softmax_cross_entropy),
    ("SpaceToDepth", indexing::space_to_depth),
    ("Sub", arithmetic::binary),
    ("TensorScatter", scatter::tensor_scatter),
    ("Unique", indexing::unique),
];

/// Whether a node is run here.
pub(super) fn is_own(node: &OnnxNode) -> bool {
    node.domain == OWN_DOMAIN
}

/// Runs a node, given its operands by position, None where one is left out. Returns a value for each
/// of its outputs, those left out ("") counted.
pub(super) fn run(node: &OnnxNode, operands: &[Option<&Datum>]) -> Result<Vec<Datum>> {
    let failed = |reason: String| Error::FloatRun {
        node: format!("node '{}' (operator {})", node.label(), node.op_type),
        reason,
    };
    let kernel = KERNELS.iter().find(|(name, _)| *name == node.op_type);
    let (_, kernel) = kernel.ok_or_else(|| failed("nothing runs it".to_owned()))?;
    place::at_made(|| node.label());
    let call = Call { node, operands };
    let made = super::guarded(|| kernel(&call))
        .and_then(|made| made)
        .map_err(failed)?;
    Ok(made.into_iter().take(node.outputs.len()).collect())
}
