//! A Linear in each way as ONNX nodes. In floats the ways differ in nothing but how the sum of products
//! is written; beside each tensor that its way has is the fake quant that VALIDATION gives it.

use dual16_nash::dtype::IntDtype;
use ndarray::{Array1, Ix1};

use super::{
    emit::{Dialect, Emitter, misfit},
    source::{Part, Source},
    store::Recipe,
};
use crate::{
    Error, Result,
    canonical::{int_attribute, ints_attribute},
    graph::{Linear, NodeId},
    onnx::f32_initializer,
    plan::InnerParams,
};

impl Emitter<'_, '_> {
    /// Writes a Linear whose input is quantized as its way takes it; its output is `target`.
    pub(super) fn linear(&mut self, id: NodeId, inputs: &[String], target: &str) -> Result<()> {
        let (node, _, planned) = self.source.linear(id.0)?;
        let x = inputs.first().ok_or_else(|| misfit(node))?;
        let name = node.name.as_str();
        let part = |suffix: &str| format!("{name}.{suffix}");
        let int16 = IntDtype::Int16;
        let bias = self.bias(id)?;
        match planned.params.inner {
            InnerParams::Gemm => {
                let weight = self.channel_weight(id, Part::Weight)?;
                self.product(x, &weight, bias.as_deref(), &part("matmul"), Some(target));
            }
            InnerParams::MulSum {
                weight: weight_scale,
                product,
                sum,
                bias: bias_scale,
            } => {
                let axes = self.writer.ints(&[-2]);
                let rows = self.weight(id, Part::Rows)?;
                let rows = self.inner(rows, int16, weight_scale);
                let column = self
                    .writer
                    .node("Unsqueeze", &[x, &axes], vec![], &part("unsqueeze"));
                let products = self
                    .writer
                    .node("Mul", &[&column, &rows], vec![], &part("mul"));
                let products = self.inner(products, int16, product);
                let last = self.writer.ints(&[-1]);
                let sums = self.writer.node(
                    "ReduceSum",
                    &[&products, &last],
                    vec![int_attribute("keepdims", 0)],
                    &part("sum"),
                );
                let sums = self.inner(sums, int16, sum);
                match (bias, bias_scale) {
                    (Some(bias), Some(scale)) => {
                        let bias = self.inner(bias, int16, scale);
                        self.writer.node_to("Add", &[&sums, &bias], vec![], target);
                    }
                    _ => self.writer.node_to("Identity", &[&sums], vec![], target),
                }
            }
            InnerParams::Split { high, low } => {
                let plane = self.channel_weight(id, Part::High)?;
                let hi = self.product(x, &plane, bias.as_deref(), &part("hi"), None);
                let hi = self.inner(hi, int16, high);
                let plane = self.channel_weight(id, Part::Low)?;
                let lo = self.product(x, &plane, None, &part("lo"), None);
                let lo = self.inner(lo, int16, low);
                self.writer.node_to("Add", &[&hi, &lo], vec![], target);
            }
            InnerParams::LowRank {
                main,
                inner,
                branch,
            } => {
                let weight = self.channel_weight(id, Part::Weight)?;
                let product = self.product(x, &weight, bias.as_deref(), &part("main"), None);
                let product = self.inner(product, int16, main);
                let down = self.channel_weight(id, Part::Down)?;
                let narrow = self.product(x, &down, None, &part("lowrank_down"), None);
                let narrow = self.inner(narrow, int16, inner);
                let up = self.channel_weight(id, Part::Up)?;
                let added = self.product(&narrow, &up, None, &part("lowrank_up"), None);
                let added = self.inner(added, int16, branch);
                self.writer
                    .node_to("Add", &[&product, &added], vec![], target);
            }
        }
        Ok(())
    }

    /// `x [.., K] * weight [K, O] (+ bias)`.
    fn product(
        &mut self,
        x: &str,
        weight: &str,
        bias: Option<&str>,
        name: &str,
        target: Option<&str>,
    ) -> String {
        let mut last = |op: &str, inputs: &[&str], wanted: &str, is_last: bool| match target {
            Some(target) if is_last => {
                self.writer.node_to(op, inputs, vec![], target);
                target.to_owned()
            }
            _ => self.writer.node(op, inputs, vec![], wanted),
        };
        let product = last("MatMul", &[x, weight], name, bias.is_none());
        match bias {
            Some(bias) => last("Add", &[&product, bias], &format!("{name}.biased"), true),
            None => product,
        }
    }

    /// A weight `[K, O]` that is quantized with a scale for each output channel.
    fn channel_weight(&mut self, id: NodeId, part: Part) -> Result<String> {
        let (_, linear, planned) = self.source.linear(id.0)?;
        let of_scales = match part {
            Part::Low => Part::LowScales,
            Part::Down => Part::DownScales,
            Part::Up => Part::UpScales,
            _ => Part::Scales,
        };
        let dtype = Source::weight_dtype(planned);
        // A weight that the model has as [O, K] is quantized so, and turned then.
        let shared = match part {
            Part::Weight if planned.params.fit.is_none() => self.shared(linear),
            _ => None,
        };
        let (name, axis) = match &shared {
            Some((name, rows)) => (name.clone(), usize::from(!rows)),
            None => (self.weight(id, part)?, 1),
        };
        let weight = match self.dialect {
            Dialect::Float => name,
            Dialect::Quantized => {
                let scales = vector(self.source, id.0, of_scales)?;
                self.channels(&name, scales, dtype, axis)
            }
        };
        if axis == 1 {
            return Ok(weight);
        }
        let turn = vec![ints_attribute("perm", &[1, 0])];
        Ok(self
            .writer
            .node("Transpose", &[&weight], turn, &format!("{weight}.t")))
    }

    /// The constant of the model that is a Linear's weight, and whether it is `[O, K]` there.
    fn shared(&mut self, linear: &Linear) -> Option<(String, bool)> {
        let name = *self.weights.get(&(linear.weight.as_ptr() as usize))?;
        let shape = self.source.model.constant_shape(name)?;
        let (o, k) = linear.weight.dim();
        let rows = shape == [o, k] && linear.weight.is_standard_layout();
        let turned = shape == [k, o] && linear.weight.t().is_standard_layout();
        if !rows && !turned {
            return None;
        }
        let name = name.to_owned();
        self.constant(&name);
        Some((name, rows))
    }

    /// A part of a Linear as a constant: the model's own where it is that, else one of the file of tensors.
    fn weight(&mut self, id: NodeId, part: Part) -> Result<String> {
        let (_, linear, planned) = self.source.linear(id.0)?;
        let plain = planned.params.fit.is_none();
        if plain
            && matches!(part, Part::Weight | Part::Rows)
            && let Some((name, rows)) = self.shared(linear)
            && rows == (part == Part::Rows)
        {
            return Ok(name);
        }
        self.stored(id, part)
    }

    /// A part of a Linear as a constant in the file of tensors.
    fn stored(&mut self, id: NodeId, part: Part) -> Result<String> {
        let name = self.names.part(id.0, part).to_owned();
        let shape = self.source.shape(id.0, part)?;
        self.store.add(&name, &shape, Recipe::Made(id.0, part));
        self.writer.stored(&name, &shape);
        Ok(name)
    }

    /// The bias that it runs with.
    fn bias(&mut self, id: NodeId) -> Result<Option<String>> {
        let (_, linear, planned) = self.source.linear(id.0)?;
        if planned.params.fit.is_some() {
            return self.stored(id, Part::Bias).map(Some);
        }
        let name = self.names.part(id.0, Part::Bias).to_owned();
        Ok(linear.bias.as_ref().map(|bias| {
            let tensor = f32_initializer(&name, bias.view().into_dyn());
            self.writer.inline(&name, tensor);
            name
        }))
    }
}

/// A part that is a vector.
fn vector(source: &Source<'_>, id: usize, part: Part) -> Result<Array1<f32>> {
    let array = source.part(id, part)?;
    array
        .into_dimensionality::<Ix1>()
        .map_err(|error| Error::FloatRun {
            node: format!("Linear {id}"),
            reason: error.to_string(),
        })
}
