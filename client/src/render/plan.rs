//! plan.json of a plan-only job, as far as a table shows it.

use comfy_table::Cell;
use serde::Deserialize;

use super::{
    table::{new_table, right},
    terminal::Paint,
};
use indicatif::HumanBytes;

/// The part of plan.json that is shown. What is missing in the file is left out of the table.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Every Linear.
    pub layers: Vec<PlanLayer>,
    /// The stages that would run, in order.
    pub stages: Vec<PlanStage>,
    /// Bytes by what they are for.
    pub bytes: std::collections::BTreeMap<String, u64>,
}

/// A Linear and how it would run.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PlanLayer {
    /// Module name.
    pub name: String,
    /// "auto" or a way.
    pub requested: String,
    /// The way it starts with.
    pub effective: String,
    /// Why the two differ.
    pub reason: String,
    /// Every way and whether the toolchain can run it.
    pub ways: Vec<PlanWay>,
}

/// A way of a Linear.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PlanWay {
    /// The way.
    pub way: String,
    /// Whether the toolchain can run it.
    pub legal: bool,
    /// Why not.
    pub reason: String,
    /// Multiply-accumulates of one batch.
    pub macs: u64,
}

/// A stage that would run.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PlanStage {
    /// Its name.
    pub name: String,
    /// Map tasks plus the reduce.
    pub tasks: u64,
}

impl Plan {
    /// Reads plan.json.
    ///
    /// # Errors
    /// What serde says about bytes that are no such JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The plan as tables.
    pub fn tables(&self, paint: Paint) -> String {
        let mut parts = vec![self.layer_table(paint)];
        if !self.stages.is_empty() {
            let tasks: Vec<_> = self
                .stages
                .iter()
                .map(|stage| format!("{} {}", stage.name, stage.tasks))
                .collect();
            let total: u64 = self.stages.iter().map(|stage| stage.tasks).sum();
            parts.push(format!("tasks: {total} ({})", tasks.join(", ")));
        }
        if !self.bytes.is_empty() {
            let bytes: Vec<_> = self
                .bytes
                .iter()
                .map(|(name, bytes)| format!("{name} {}", HumanBytes(*bytes)))
                .collect();
            parts.push(format!("bytes: {}", bytes.join(", ")));
        }
        parts.join("\n")
    }

    fn layer_table(&self, paint: Paint) -> String {
        let mut table = new_table(paint);
        table.set_header(vec![
            "layer",
            "requested",
            "starts as",
            "legal ways",
            "MACs a batch",
        ]);
        for layer in &self.layers {
            let legal: Vec<_> = layer
                .ways
                .iter()
                .filter(|way| way.legal)
                .map(|way| way.way.as_str())
                .collect();
            let macs = layer
                .ways
                .iter()
                .find(|way| way.way == layer.effective)
                .map(|way| way.macs);
            table.add_row(vec![
                Cell::new(&layer.name),
                Cell::new(&layer.requested),
                Cell::new(&layer.effective),
                Cell::new(legal.join(" ")),
                right(macs.map_or_else(|| "-".to_owned(), |macs| macs.to_string())),
            ]);
        }
        let mut text = table.trim_fmt();
        for layer in self.layers.iter().filter(|layer| !layer.reason.is_empty()) {
            text += &format!("\n{}: {}", layer.name, layer.reason);
        }
        for (way, reason) in self.illegal() {
            text += &format!("\n{way} is not legal: {reason}");
        }
        text
    }

    /// Illegal ways and why, each once.
    fn illegal(&self) -> Vec<(&str, &str)> {
        let mut found: Vec<_> = self
            .layers
            .iter()
            .flat_map(|layer| &layer.ways)
            .filter(|way| !way.legal)
            .map(|way| (way.way.as_str(), way.reason.as_str()))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Terminal;

    #[test]
    fn a_plan_shows_legality_tasks_and_bytes() {
        let json = br#"{"layers": [{"name": "linear2", "requested": "auto", "effective": "a16w8",
            "ways": [{"way": "a16w8", "legal": true, "macs": 1000},
                     {"way": "a16w16", "legal": false, "reason": "needs oe-3.2"}], "more": 1}],
            "stages": [{"name": "observe", "tasks": 9}, {"name": "convert", "tasks": 3}],
            "bytes": {"model": 2048}}"#;
        let text = Plan::parse(json)
            .unwrap()
            .tables(Terminal::plain().stdout_paint());
        for part in [
            "linear2",
            "1000",
            "a16w16 is not legal: needs oe-3.2",
            "tasks: 12 (observe 9, convert 3)",
            "bytes: model 2.00 KiB",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_is_no_plan_is_an_error() {
        for bytes in [&b"not json"[..], br#"{"layers": 3}"#] {
            assert!(Plan::parse(bytes).is_err());
        }
    }
}
