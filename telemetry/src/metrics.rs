//! What every program's metrics share: names that cannot multiply, buckets, the figures of the
//! process itself, and the text that Prometheus reads.

use std::{
    collections::BTreeSet,
    fmt, fs,
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{gauge::ConstGauge, info::Info},
    registry::{Metric, Registry, Unit},
};

/// What stands for every name beyond the bound.
pub const OTHER: &str = "other";

/// Seconds of calls and commits: 0.5 ms to 10 s.
pub const CALL_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Seconds of tasks and stages: 10 ms to an hour.
pub const WORK_SECONDS: [f64; 14] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];

/// Label values that come from outside: the first few are kept, all others are [`OTHER`]. Whatever
/// a peer sends, a metric has a bounded number of series.
#[derive(Debug)]
pub struct Names {
    most: usize,
    seen: Mutex<BTreeSet<String>>,
}

impl Names {
    /// At most `most` names.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            seen: Mutex::default(),
        }
    }

    /// `name` while there is room, [`OTHER`] from then on.
    pub fn bounded(&self, name: &str) -> String {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(name) {
            return name.to_owned();
        }
        if seen.len() >= self.most {
            return OTHER.to_owned();
        }
        seen.insert(name.to_owned());
        name.to_owned()
    }
}

/// A registry whose metrics begin with "dual16_", with the version and the figures of the process.
pub fn registry(version: &'static str) -> Registry {
    let mut registry = Registry::with_prefix("dual16");
    let build = Info::new(vec![("version", version)]);
    registry.register("build", "Version of the program", build);
    registry.register_collector(Box::new(Process));
    registry
}

/// Registers a metric and gives it back, so that a struct of metrics is built in one expression.
pub fn added<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric: M,
) -> M {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

/// All metrics as OpenMetrics text.
pub fn encode(registry: &Registry) -> String {
    let mut encoded = String::new();
    match text::encode(&mut encoded, registry) {
        Ok(()) => encoded,
        // A text that breaks off would be taken for a whole one.
        Err(fmt::Error) => String::from("# EOF\n"),
    }
}

/// Memory of this process as the system counts it. Nothing is told where there is no /proc.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(status) = fs::read_to_string("/proc/self/status") else {
            return Ok(());
        };
        for (field, name, help) in [
            ("VmRSS:", "process_resident_memory", "Memory held now"),
            ("VmHWM:", "process_peak_memory", "Most memory ever held"),
        ] {
            let Some(bytes) = kib(&status, field) else {
                continue;
            };
            let gauge = ConstGauge::new(bytes);
            let metric = encoder.encode_descriptor(
                name,
                help,
                Some(&Unit::Bytes),
                EncodeMetric::metric_type(&gauge),
            )?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

/// A line such as "VmRSS:     5312 kB", in bytes.
fn kib(status: &str, field: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let number = line.split_whitespace().next()?.parse::<i64>().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_one() {
        let names = Names::new(2);
        let told: Vec<_> = ["a", "b", "c", "a", "d"]
            .map(|name| names.bounded(name))
            .into();
        assert_eq!(told, ["a", "b", OTHER, "a", OTHER]);
    }

    #[test]
    fn memory_is_read_from_the_systems_own_text() {
        assert_eq!(kib("Name:\tx\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12_288));
        assert_eq!(kib("Name:\tx\n", "VmRSS:"), None);
        let text = encode(&registry("1.2.3"));
        assert!(
            text.contains("dual16_build_info{version=\"1.2.3\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("dual16_process_resident_memory_bytes "),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
