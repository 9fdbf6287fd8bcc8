//! The operators of ONNX and what becomes of each: the one table, from which `docs/operators.md` is
//! generated. What is not in it, and what it refuses, no model gets past.

use super::{OWN_DOMAIN, known::Known, refusal::Refusal};
use crate::onnx::NodeProto;

/// What becomes of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Runs in integers, by a kernel of NASH_M.
    Kernel,
    /// Others stand in for it: the text says which.
    Rewritten(&'static str),
    /// Runs in float between dequantize and quantize, or on integers as they are.
    Float,
    /// The same, by a kernel of this crate.
    Own,
    /// No model that needs it is run: the text says why, and what would be right.
    Refused(&'static str),
}

/// An operator of the standard set.
#[derive(Debug, Clone, Copy)]
pub struct Operator {
    /// As ONNX calls it.
    pub name: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

const fn kernel(name: &'static str) -> Operator {
    Operator {
        name,
        fate: Fate::Kernel,
    }
}

const fn float(name: &'static str) -> Operator {
    Operator {
        name,
        fate: Fate::Float,
    }
}

const fn own(name: &'static str) -> Operator {
    Operator {
        name,
        fate: Fate::Own,
    }
}

const fn rewritten(name: &'static str, into: &'static str) -> Operator {
    Operator {
        name,
        fate: Fate::Rewritten(into),
    }
}

const fn refused(name: &'static str, why: &'static str) -> Operator {
    Operator {
        name,
        fate: Fate::Refused(why),
    }
}

const RANDOM: &str = "it draws random numbers, so no two runs agree; give them as an input";
const TRAINING: &str = "it is for training; export the model for inference";
const STRINGS: &str = "it works on strings; only numbers are run";
const BODIES: &str = "its body is run again and again in a way that nothing here has; unroll it";
const QUANTIZED: &str = "it is quantized already; give the float model that it was made from";
const OPTIONAL: &str = "it makes or takes an optional value, which is no tensor";

/// Every operator, by name.
pub fn operators() -> &'static [Operator] {
    TABLE
}

const TABLE: &[Operator] = &[
    float("Abs"),
    float("Acos"),
    float("Acosh"),
    refused("Adagrad", TRAINING),
    refused("Adam", TRAINING),
    kernel("Add"),
    own("AffineGrid"),
    float("And"),
    own("ArgMax"),
    own("ArgMin"),
    float("Asin"),
    float("Asinh"),
    float("Atan"),
    float("Atanh"),
    rewritten("Attention", "MatMul, Add and Softmax"),
    float("AveragePool"),
    float("BatchNormalization"),
    refused("Bernoulli", RANDOM),
    own("BitCast"),
    own("BitShift"),
    own("BitwiseAnd"),
    own("BitwiseNot"),
    own("BitwiseOr"),
    own("BitwiseXor"),
    own("BlackmanWindow"),
    kernel("Cast"),
    rewritten("CastLike", "Cast"),
    refused(
        "CausalConvWithState",
        "nothing here runs it; write it as Concat, Conv and Slice",
    ),
    float("Ceil"),
    rewritten("Celu", "Elu and Mul"),
    own("CenterCropPad"),
    kernel("Clip"),
    own("Col2Im"),
    own("Compress"),
    kernel("Concat"),
    float("ConcatFromSequence"),
    rewritten("Constant", "a constant"),
    float("ConstantOfShape"),
    float("Conv"),
    own("ConvInteger"),
    float("ConvTranspose"),
    float("Cos"),
    float("Cosh"),
    own("CumProd"),
    float("CumSum"),
    own("DFT"),
    own("DeformConv"),
    float("DepthToSpace"),
    float("DequantizeLinear"),
    own("Det"),
    kernel("Div"),
    rewritten("Dropout", "Identity"),
    own("DynamicQuantizeLinear"),
    float("Einsum"),
    float("Elu"),
    float("Equal"),
    kernel("Erf"),
    kernel("Exp"),
    kernel("Expand"),
    float("EyeLike"),
    kernel("Flatten"),
    refused(
        "FlexAttention",
        "nothing here runs it; write it as MatMul and Softmax",
    ),
    float("Floor"),
    float("GRU"),
    kernel("Gather"),
    float("GatherElements"),
    float("GatherND"),
    kernel("Gelu"),
    kernel("Gemm"),
    kernel("GlobalAveragePool"),
    rewritten("GlobalLpPool", "ReduceL2"),
    float("GlobalMaxPool"),
    refused("Gradient", TRAINING),
    float("Greater"),
    float("GreaterOrEqual"),
    float("GridSample"),
    rewritten("GroupNormalization", "InstanceNormalization, Mul and Add"),
    own("HammingWindow"),
    own("HannWindow"),
    float("HardSigmoid"),
    rewritten("HardSwish", "HardSigmoid and Mul"),
    rewritten("Hardmax", "ArgMax and OneHot"),
    kernel("Identity"),
    float("If"),
    refused(
        "ImageDecoder",
        "it decodes image files; give the model pixels",
    ),
    float("InstanceNormalization"),
    float("IsInf"),
    float("IsNaN"),
    own("LRN"),
    float("LSTM"),
    kernel("LayerNormalization"),
    float("LeakyRelu"),
    float("Less"),
    float("LessOrEqual"),
    refused(
        "LinearAttention",
        "nothing here runs it; write its recurrence as products",
    ),
    kernel("Log"),
    float("LogSoftmax"),
    float("Loop"),
    float("LpNormalization"),
    own("LpPool"),
    kernel("MatMul"),
    own("MatMulInteger"),
    float("Max"),
    float("MaxPool"),
    own("MaxUnpool"),
    rewritten("Mean", "Add and Div"),
    rewritten("MeanVarianceNormalization", "ReduceMean, Sub, Sqrt and Div"),
    own("MelWeightMatrix"),
    float("Min"),
    rewritten("Mish", "Softplus, Tanh and Mul"),
    float("Mod"),
    refused("Momentum", TRAINING),
    kernel("Mul"),
    refused("Multinomial", RANDOM),
    float("Neg"),
    own("NegativeLogLikelihoodLoss"),
    own("NonMaxSuppression"),
    float("NonZero"),
    float("Not"),
    float("OneHot"),
    refused("Optional", OPTIONAL),
    refused("OptionalGetElement", OPTIONAL),
    refused("OptionalHasElement", OPTIONAL),
    float("Or"),
    float("PRelu"),
    float("Pad"),
    kernel("Pow"),
    refused("QLinearConv", QUANTIZED),
    refused("QLinearMatMul", QUANTIZED),
    own("QuantizeLinear"),
    float("RMSNormalization"),
    own("RNN"),
    refused("RandomNormal", RANDOM),
    refused("RandomNormalLike", RANDOM),
    refused("RandomUniform", RANDOM),
    refused("RandomUniformLike", RANDOM),
    float("Range"),
    kernel("Reciprocal"),
    float("ReduceL1"),
    float("ReduceL2"),
    float("ReduceLogSum"),
    float("ReduceLogSumExp"),
    kernel("ReduceMax"),
    kernel("ReduceMean"),
    float("ReduceMin"),
    float("ReduceProd"),
    kernel("ReduceSum"),
    float("ReduceSumSquare"),
    refused("RegexFullMatch", STRINGS),
    kernel("Relu"),
    kernel("Reshape"),
    float("Resize"),
    float("ReverseSequence"),
    own("RoiAlign"),
    rewritten("RotaryEmbedding", "Mul, Sub, Add and Concat"),
    float("Round"),
    refused(
        "STFT",
        "nothing here runs it; give the model spectra, or write it as a Conv of sines and cosines",
    ),
    refused("Scan", BODIES),
    rewritten("Scatter", "ScatterElements"),
    own("ScatterElements"),
    float("ScatterND"),
    rewritten("Selu", "Elu and Mul"),
    float("SequenceAt"),
    float("SequenceConstruct"),
    float("SequenceEmpty"),
    float("SequenceErase"),
    float("SequenceInsert"),
    float("SequenceLength"),
    refused("SequenceMap", BODIES),
    float("Shape"),
    rewritten("Shrink", "Greater, Less and Where"),
    kernel("Sigmoid"),
    rewritten("Sign", "Greater, Less and Sub"),
    float("Sin"),
    float("Sinh"),
    float("Size"),
    kernel("Slice"),
    kernel("Softmax"),
    own("SoftmaxCrossEntropyLoss"),
    kernel("Softplus"),
    float("Softsign"),
    own("SpaceToDepth"),
    kernel("Split"),
    float("SplitToSequence"),
    kernel("Sqrt"),
    kernel("Squeeze"),
    refused("StringConcat", STRINGS),
    refused("StringNormalizer", STRINGS),
    refused("StringSplit", STRINGS),
    kernel("Sub"),
    rewritten("Sum", "Add"),
    rewritten("SwiGLU", "Sigmoid and Mul"),
    rewritten("Swish", "Sigmoid and Mul"),
    float("Tan"),
    kernel("Tanh"),
    own("TensorScatter"),
    refused("TfIdfVectorizer", STRINGS),
    rewritten("ThresholdedRelu", "Greater and Where"),
    float("Tile"),
    float("TopK"),
    kernel("Transpose"),
    float("Trilu"),
    own("Unique"),
    kernel("Unsqueeze"),
    rewritten("Upsample", "Resize"),
    float("Where"),
    float("Xor"),
];

/// Operators of other domains that are run as they are, in float: rten's own.
const OF_OTHERS: &[(&str, &str)] = &[
    ("com.microsoft", "BiasGelu"),
    ("com.microsoft", "FastGelu"),
    ("com.microsoft", "Gelu"),
    ("com.microsoft", "GroupQueryAttention"),
    ("com.microsoft", "MatMulNBits"),
    ("com.microsoft", "MultiHeadAttention"),
    ("com.microsoft", "QuickGelu"),
    ("com.microsoft", "SkipLayerNormalization"),
];

/// What a refusal calls an operator.
pub(super) fn shown(node: &NodeProto) -> String {
    match node.domain.as_str() {
        "" => format!("operator {}", node.op_type),
        domain => format!("operator {domain}.{}", node.op_type),
    }
}

/// Refuses a node that no rewrite took and that cannot be run as it is.
pub(super) fn check(known: &Known<'_>, node: &NodeProto) -> Result<(), Refusal> {
    if node.domain == OWN_DOMAIN {
        return Ok(());
    }
    if !node.domain.is_empty() {
        let listed = OF_OTHERS.contains(&(node.domain.as_str(), node.op_type.as_str()));
        return match listed {
            true => Ok(()),
            false => Err(Refusal::new(of_another_domain(node))),
        };
    }
    let found = TABLE.iter().find(|operator| operator.name == node.op_type);
    match found.map(|operator| operator.fate) {
        None => {
            return Err(Refusal::new(
                "nothing here runs it; export the model with other operators",
            ));
        }
        Some(Fate::Refused(why)) => return Err(Refusal::new(why)),
        Some(Fate::Rewritten(into)) => {
            return Err(Refusal::new(format!("it could not be written as {into}")));
        }
        Some(Fate::Own) => return Err(Refusal::new("no kernel here takes it with these inputs")),
        Some(Fate::Kernel | Fate::Float) => {}
    }
    wide_integers(known, node)
}

fn of_another_domain(node: &NodeProto) -> &'static str {
    match (node.domain.as_str(), node.op_type.as_str()) {
        ("ai.onnx.ml", "ZipMap") => {
            "it makes a dictionary of probabilities; export with options={id(model): {'zipmap': False}}"
        }
        ("ai.onnx.ml", _) => {
            "it is an operator of classical learning, of its labels perhaps; keep the outputs before it, as \
             skl2onnx.helpers.onnx_helper.select_model_inputs_outputs does"
        }
        _ => "it is none of ONNX's own operators; export the model with standard ones",
    }
}

/// Float execution holds integers in 32 bits, and larger constants as the largest of those. Bounds
/// mean the same then; anything that calculates with them does not.
fn wide_integers(known: &Known<'_>, node: &NodeProto) -> Result<(), Refusal> {
    let bounds = matches!(
        node.op_type.as_str(),
        "Slice"
            | "Clip"
            | "Min"
            | "Max"
            | "Less"
            | "LessOrEqual"
            | "Greater"
            | "GreaterOrEqual"
            | "NonMaxSuppression"
            | "TopK"
            | "Shape"
            | "Trilu"
    );
    if bounds {
        return Ok(());
    }
    for name in node.input.iter().filter(|name| known.is_integer(name)) {
        let wide = known
            .ints(name)
            .unwrap_or_default()
            .into_iter()
            .find(|&x| i32::try_from(x).is_err());
        if let Some(x) = wide {
            return Err(Refusal::new(format!(
                "its constant '{name}' has {x}, a 64-bit integer; float execution has 32-bit ones"
            )));
        }
    }
    Ok(())
}
