//! `statistics.csv`: the article's statistics of the float model, one line for each input, weight,
//! bias and output of every operation.

use std::{collections::HashSet, fmt::Write as _};

use super::{Report, ways::field};
use crate::{
    graph::{Graph, Node, Op, ValueId, ValueKind},
    observe::Statistics,
    plan::{Key, Slot},
};

/// The file's text.
pub(crate) fn text(report: &Report<'_>) -> String {
    let mut table = Table {
        report,
        text: "op,module,tensor,role,min,max,mean,var,shape\n".to_owned(),
    };
    for (id, node) in report.graph.running() {
        // A square reads its input twice; one line says it.
        let mut seen = HashSet::new();
        for &input in node.inputs.iter().filter(|input| seen.insert(**input)) {
            table.value(node, "input", input);
        }
        if let Op::Linear(linear) = &node.op {
            let weight = format!("{}.weight", node.name);
            let shape = [linear.weight.nrows(), linear.weight.ncols()];
            table.parameter(node, "weight", &weight, linear.weight.iter(), &shape);
            if let Some(bias) = &linear.bias {
                let name = format!("{}.bias", node.name);
                table.parameter(node, "bias", &name, bias.iter(), &[bias.len()]);
            }
            for slot in [Slot::Product, Slot::Sum, Slot::High, Slot::Low] {
                let name = format!("{}.{}", node.name, slot.suffix());
                let key = Key::Slot(id.0, slot);
                if let Some(statistics) = report.calibration.statistics.get(&key) {
                    table.observed(node, "inner", &name, statistics, None);
                }
            }
        }
        for &output in &node.outputs {
            table.value(node, "output", output);
        }
    }
    table.text
}

struct Table<'a> {
    report: &'a Report<'a>,
    text: String,
}

impl Table<'_> {
    fn value(&mut self, node: &Node, role: &str, id: ValueId) {
        let graph: &Graph = self.report.graph;
        let value = graph.value(id);
        if let ValueKind::Constant(tensor) = &value.kind {
            // Masked elements are left out, as they are of what is observed.
            let side = graph.mask_side(id);
            let unmasked = tensor
                .iter()
                .filter(|&&x| side.is_none_or(|side| !side.is_masked(x)));
            self.parameter(node, role, &value.name, unmasked, tensor.shape());
            return;
        }
        // A moved tensor has the values of what it was moved from; its shape is its own.
        let key = Key::Value(graph.origin(id).0);
        if let Some(statistics) = self.report.calibration.statistics.get(&key) {
            self.observed(node, role, &value.name, statistics, Some(&value.shape));
        }
    }

    fn observed(
        &mut self,
        node: &Node,
        role: &str,
        name: &str,
        statistics: &Statistics,
        shape: Option<&[usize]>,
    ) {
        let Some(range) = statistics.observed() else {
            return;
        };
        let shape = shape.unwrap_or(statistics.shape());
        // A range that was found without forming the values has no moments.
        let moments = (statistics.count() > 0).then(|| (statistics.mean(), statistics.variance()));
        self.row(node, role, name, (range.min(), range.max()), moments, shape);
    }

    fn parameter<'v>(
        &mut self,
        node: &Node,
        role: &str,
        name: &str,
        values: impl Iterator<Item = &'v f32>,
        shape: &[usize],
    ) {
        // As of an observed value.
        let values: Vec<f32> = values.copied().filter(|x| x.is_finite()).collect();
        let range = crate::plan::exact_range(values.iter());
        let count = values.len().max(1) as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let square = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
        let variance = values.iter().map(square).sum::<f64>() / count;
        self.row(
            node,
            role,
            name,
            (range.min(), range.max()),
            Some((mean, variance)),
            shape,
        );
    }

    fn row(
        &mut self,
        node: &Node,
        role: &str,
        name: &str,
        (min, max): (f32, f32),
        moments: Option<(f64, f64)>,
        shape: &[usize],
    ) {
        let (mean, variance) = match moments {
            Some((mean, variance)) => (mean.to_string(), variance.to_string()),
            None => Default::default(),
        };
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.text,
            "{},{},{},{role},{min},{max},{mean},{variance},{}",
            node.op.name(),
            field(&node.names.module),
            field(name),
            dims.join("x"),
        );
    }
}
