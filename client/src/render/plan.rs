//! plan.json of a plan-only job, as far as tables show it.

mod names;

use std::collections::BTreeMap;

use indicatif::HumanBytes;
use serde::Deserialize;

use names::Named;

use super::{
    cut,
    grid::{Grid, name, number, text, word},
    metrics::microseconds,
    terminal::{HANG, Paint},
    wrap::wrapped,
};

/// The stages in the order in which they run; the file has them by name.
const STAGES: [&str; 5] = ["plan", "observe", "evaluate", "validate", "convert"];

/// The part of plan.json that is shown.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Plan {
    layers: Vec<Layer>,
    /// What settings may call each operation, Linears first.
    #[serde(default)]
    names: Vec<Named>,
    /// Tasks of each stage, its reduce included.
    tasks: BTreeMap<String, u64>,
    /// Bytes of the inputs by kind.
    bytes: BTreeMap<String, u64>,
    /// What the whole model takes as it starts.
    #[serde(default)]
    estimate: Option<Total>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Total {
    march: String,
    #[serde(flatten)]
    time: Time,
    compute_us: f64,
    load_us: f64,
    store_us: f64,
    /// Multiply-accumulates by what is multiplied.
    macs: BTreeMap<String, u64>,
    requantized_bytes: u64,
    loaded_bytes: u64,
    stored_bytes: u64,
    float_islands: u64,
}

/// An estimate of a time on the chip.
#[derive(Debug, PartialEq, Deserialize)]
struct Time {
    latency_us: f64,
    bound: String,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Layer {
    name: String,
    /// Output and input features.
    shape: [u64; 2],
    /// Multiply-accumulates of one batch.
    macs: u64,
    requested: String,
    /// The way it starts with.
    way: String,
    /// Why that is not what was requested.
    #[serde(default)]
    reason: String,
    legal: Vec<String>,
    /// Way and the rule it breaks.
    illegal: BTreeMap<String, String>,
    /// Of the way it starts with.
    #[serde(default)]
    estimate: Option<Time>,
}

impl Plan {
    /// Reads plan.json.
    ///
    /// # Errors
    /// What serde says about bytes that are no such JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The plan as tables, with the first `top` layers and operators.
    pub fn tables(&self, top: usize, paint: Paint) -> String {
        let mut lines = vec![self.tasks_line(), self.bytes_line()];
        lines.extend(self.estimate.as_ref().map(Total::line));
        let lines = wrapped(&lines.join("\n"), paint.width(), HANG);
        let remedies = names::remedies(&self.names, top, paint);
        let remedies = remedies.map_or_else(String::new, |table| format!("\n{table}\n"));
        format!("{}\n{remedies}{lines}", self.layer_table(top, paint))
    }

    /// What everything can be called, as tables: Linears, then the rest.
    pub fn names_tables(&self, paint: Paint) -> String {
        names::tables(&self.names, paint)
    }

    /// The same as JSON.
    pub fn names_json(&self) -> String {
        names::json(&self.names)
    }

    fn layer_table(&self, top: usize, paint: Paint) -> String {
        let mut grid = Grid::new([
            name("layer"),
            number("shape").may_go(3),
            word("requested").may_go(1),
            word("starts as"),
            text("legal ways"),
            number("MACs a batch").may_go(2),
            number("est. us").may_go(4),
        ]);
        let (layers, more) = cut(&self.layers, top);
        for layer in layers {
            let [outputs, inputs] = layer.shape;
            grid.row([
                layer.name.as_str().into(),
                format!("{outputs}x{inputs}").into(),
                layer.requested.as_str().into(),
                layer.way.as_str().into(),
                layer.legal.join(" ").into(),
                layer.macs.to_string().into(),
                microseconds(layer.estimate.as_ref().map(|time| time.latency_us)).into(),
            ]);
        }
        let mut lines = vec![grid.render(paint)];
        lines.extend(more);
        let reasons = layers.iter().filter(|layer| !layer.reason.is_empty());
        lines.extend(
            reasons
                .map(|layer| format!("{} starts as {}: {}", layer.name, layer.way, layer.reason)),
        );
        let illegal: BTreeMap<_, _> = self
            .layers
            .iter()
            .flat_map(|layer| &layer.illegal)
            .collect();
        // A reason begins with the way and what is against it.
        lines.extend(illegal.values().map(ToString::to_string));
        let remarks = wrapped(&lines.split_off(1).join("\n"), paint.width(), HANG);
        match remarks.is_empty() {
            true => lines.join("\n"),
            false => format!("{}\n{remarks}", lines.join("\n")),
        }
    }

    fn tasks_line(&self) -> String {
        let position = |name: &str| STAGES.iter().position(|stage| *stage == name);
        let mut stages: Vec<_> = self.tasks.iter().collect();
        stages.sort_by_key(|(name, _)| position(name).unwrap_or(STAGES.len()));
        let each: Vec<_> = stages
            .iter()
            .map(|(name, tasks)| format!("{name} {tasks}"))
            .collect();
        let total: u64 = self.tasks.values().sum();
        format!("tasks: {total} ({})", each.join(", "))
    }

    fn bytes_line(&self) -> String {
        let each: Vec<_> = self
            .bytes
            .iter()
            .filter(|(_, bytes)| **bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", HumanBytes(*bytes)))
            .collect();
        format!("bytes: {}", each.join(", "))
    }
}

impl Total {
    /// The whole model in one line.
    fn line(&self) -> String {
        let us = |us| microseconds(Some(us));
        let macs = self.macs.iter().filter(|(_, count)| **count > 0);
        let macs: Vec<_> = macs
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let mut line = format!(
            "estimate for {}: {} us a batch, most of it {} (compute {}, load {}, store {}); {}; loaded {}, \
             stored {}, requantized {}",
            self.march,
            us(self.time.latency_us),
            self.time.bound,
            us(self.compute_us),
            us(self.load_us),
            us(self.store_us),
            macs.join(", "),
            HumanBytes(self.loaded_bytes),
            HumanBytes(self.stored_bytes),
            HumanBytes(self.requantized_bytes),
        );
        if self.float_islands > 0 {
            line += &format!(
                "; without what {} float islands compute",
                self.float_islands
            );
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Terminal;

    #[test]
    fn a_plan_shows_legality_tasks_and_bytes() {
        let json =
            br#"{"format": "dual16 dry run 1", "layers": [{"name": "linear2", "op": "Linear",
            "shape": [60, 256], "macs": 1000, "requested": "auto", "way": "a16w8",
            "legal": ["a8w8", "a16w8"], "illegal": {"a16w16": "a16w16 needs oe-3.2"},
            "estimate": {"latency_us": 1.25, "bound": "launch"}}],
            "estimate": {"march": "nash-m", "latency_us": 21.5, "bound": "launch", "compute_us": 1.0,
            "load_us": 2.0, "store_us": 3.0, "macs": {"double int8 macs": 0,
            "feature int16 weight int8 macs": 1000}, "requantized_bytes": 0, "loaded_bytes": 1024,
            "stored_bytes": 0, "float_islands": 2},
            "tasks": {"convert": 3, "observe": 9, "plan": 1},
            "bytes": {"model": 2048, "calibration": 1024, "evaluation": 0}}"#;
        let text = Plan::parse(json)
            .unwrap()
            .tables(0, Terminal::plain().stdout_paint());
        for part in [
            "linear2",
            "60x256",
            "a8w8 a16w8",
            "a16w16 needs oe-3.2",
            "tasks: 13 (plan 1, observe 9, convert 3)",
            "bytes: calibration 1.00 KiB, model 2.00 KiB",
            " 1.25 |",
            "estimate for nash-m: 21.5 us a batch, most of it launch",
            "1000 feature int16 weight int8 macs; loaded 1.00 KiB",
            "without what 2 float islands compute",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_is_no_plan_is_an_error() {
        for bytes in [&b"not json"[..], b"{}", br#"{"layers": 3}"#] {
            assert!(Plan::parse(bytes).is_err());
        }
    }
}
