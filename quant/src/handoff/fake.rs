//! Fake quants as ONNX nodes, each what VALIDATION computes. In a file of floats there are none.

use dual16_nash::{dtype::IntDtype, quantize::Rounding};
use ndarray::{Array1, arr0};

use super::emit::{Dialect, Emitter};
use crate::{
    canonical::int_attribute,
    onnx::{DataType, TensorProto},
    plan::QParams,
};

impl Emitter<'_, '_> {
    /// A value quantized and dequantized, under the name `to`.
    pub(super) fn fake(&mut self, name: &str, params: QParams, to: &str) -> String {
        let scale = self
            .writer
            .floats(&format!("{to}.scale"), arr0(params.scale).into_dyn().view());
        self.rounded(name, &scale, params.dtype, None, to);
        to.to_owned()
    }

    /// The same for what is inside an operation; the value itself in a file of floats.
    pub(super) fn inner(&mut self, name: String, dtype: IntDtype, scale: f32) -> String {
        match self.dialect {
            Dialect::Float => name,
            Dialect::Quantized => {
                let to = self.writer.fresh(&format!("{name}.dq"));
                self.fake(&name, QParams { dtype, scale }, &to)
            }
        }
    }

    /// A weight with a scale for each output channel, which are along `axis`; the weight itself in a file of
    /// floats.
    pub(super) fn channels(
        &mut self,
        name: &str,
        scales: Array1<f32>,
        dtype: IntDtype,
        axis: usize,
    ) -> String {
        if self.dialect == Dialect::Float {
            return name.to_owned();
        }
        let to = self.writer.fresh(&format!("{name}.dq"));
        let along = match (self.source.settings.rounding, axis) {
            // Scales that a quotient broadcasts.
            (Rounding::Floor, 0) => scales.insert_axis(ndarray::Axis(1)).into_dyn(),
            _ => scales.into_dyn(),
        };
        let scale = self.writer.floats(&format!("{to}.scale"), along.view());
        self.rounded(name, &scale, dtype, Some(axis), &to);
        to
    }

    fn rounded(&mut self, name: &str, scale: &str, dtype: IntDtype, axis: Option<usize>, to: &str) {
        if self.source.settings.rounding == Rounding::Floor {
            return self.half_up(name, scale, dtype, to);
        }
        let zero = self.zero(dtype);
        let attributes = || {
            let axis = axis.map(|axis| int_attribute("axis", axis as i64));
            axis.into_iter().collect::<Vec<_>>()
        };
        let zero = match axis {
            // One for each channel is wanted; left out it is 0 of uint8.
            Some(_) => self.zeros(scale, dtype),
            None => zero,
        };
        let wanted = format!("{to}.q");
        let inputs = [name, scale, &zero];
        let q = self
            .writer
            .node("QuantizeLinear", &inputs, attributes(), &wanted);
        let inputs = [q.as_str(), scale, &zero];
        self.writer
            .node_to("DequantizeLinear", &inputs, attributes(), to);
    }

    /// floor(x / s + 0.5), which ONNX has no operator for.
    fn half_up(&mut self, name: &str, scale: &str, dtype: IntDtype, to: &str) {
        let half = self.writer.float(&format!("{to}.half"), 0.5);
        let bound = |q: i64| q as f32;
        let low = self
            .writer
            .float(&format!("{to}.least"), bound(dtype.qmin().into()));
        let high = self
            .writer
            .float(&format!("{to}.most"), bound(dtype.qmax().into()));
        let quotient = self
            .writer
            .node("Div", &[name, scale], vec![], &format!("{to}.quotient"));
        let above = self
            .writer
            .node("Add", &[&quotient, &half], vec![], &format!("{to}.above"));
        let whole = self
            .writer
            .node("Floor", &[&above], vec![], &format!("{to}.whole"));
        let clipped = self
            .writer
            .node("Clip", &[&whole, &low, &high], vec![], &format!("{to}.q"));
        self.writer.node_to("Mul", &[&clipped, scale], vec![], to);
    }

    /// The zero point of a tensor, which says its type.
    pub(super) fn zero(&mut self, dtype: IntDtype) -> String {
        let name = format!("dual16.zero.{dtype}");
        self.writer.inline(&name, zeros(&name, dtype, &[], 1));
        name
    }

    fn zeros(&mut self, scale: &str, dtype: IntDtype) -> String {
        let name = format!("{scale}.zero");
        let count = self.writer.elements(scale);
        self.writer
            .inline(&name, zeros(&name, dtype, &[count], count));
        name
    }
}

fn zeros(name: &str, dtype: IntDtype, dims: &[usize], count: usize) -> TensorProto {
    let (elem, bytes) = match dtype {
        IntDtype::Int8 => (DataType::Int8, 1),
        IntDtype::Int16 => (DataType::Int16, 2),
    };
    TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: elem.into(),
        raw_data: Some(vec![0; bytes * count].into()),
        ..TensorProto::default()
    }
}
