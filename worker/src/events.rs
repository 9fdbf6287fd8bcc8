//! What the flow reports, as the API's events. Nothing is decided here.

use dual16_proto::v1::{self, EventDetail, event_detail::Detail, notice::Severity};
use dual16_quant::{
    cost::Estimate,
    flow::{Event, WayMeasured},
    metrics::{Metric, Metrics},
    report::OutputError,
};

/// One event of a task, as it goes to the job's watchers.
pub(crate) fn event_detail(event: Event) -> EventDetail {
    let detail = match event {
        Event::Notice(notice) => Detail::Notice(v1::Notice {
            severity: if notice.warning {
                Severity::Warning
            } else {
                Severity::Info
            }
            .into(),
            code: notice.code,
            subject: notice.subject,
            message: notice.message,
        }),
        Event::Layer(layer) => Detail::LayerMeasured(v1::LayerMeasured {
            effective: layer.effective_name(),
            layer: layer.layer,
            op: layer.op,
            requested: layer.requested,
            reason: layer.reason,
            ways: layer.ways.into_iter().map(way).collect(),
        }),
        Event::Accumulated(layer) => Detail::LayerAccumulated(Box::new(v1::LayerAccumulated {
            layer: layer.layer,
            validation: Some(metrics(&layer.validation)),
            converted: Some(metrics(&layer.converted)),
        })),
        Event::Operator(row) => Detail::OperatorMeasured(Box::new(v1::OperatorMeasured {
            isolated: Some(metrics(&row.isolated)),
            validation: Some(metrics(&row.validation)),
            converted: Some(metrics(&row.converted)),
            name: row.name,
            op: row.op,
            dtype: row.dtype,
            scale: row.scale,
            drop_db: row.drop_db,
            parts_db: row.parts_db,
            zero_share: row.zero_share,
            clip_share: row.clip_share,
            range_covered: row.range_covered,
        })),
        Event::Sensitivity(row) => Detail::SensitivityMeasured(Box::new(v1::SensitivityMeasured {
            op_name: row.op,
            sensitive_type: row.sensitive_type,
            op_type: row.op_type,
            quant_dtype: row.dtype,
            macs: row.macs,
            macs_share: row.macs_share,
            estimate_db: row.estimate_db.filter(|db| db.is_finite()),
            outputs: row.outputs.iter().map(output_sensitivity).collect(),
            reason: row.reason,
        })),
        Event::Mended(step) => Detail::Mended(Box::new(v1::MendStep {
            round: step.round,
            op: step.op,
            sensitive_type: step.sensitive_type,
            from: step.from,
            to: step.to,
            share: step.share,
            left: step.left,
            kept: step.kept,
            added_us: step.added_us,
            added_macs: step.added_macs,
            before_sqnr_db: step.before_sqnr_db,
            output_sqnr_db: step.output_sqnr_db,
        })),
        Event::Output(output) => Detail::OutputMeasured(Box::new(v1::OutputMeasured {
            output: output.output,
            validation: Some(metrics(&output.validation)),
            converted: Some(metrics(&output.converted)),
        })),
    };
    EventDetail {
        detail: Some(detail),
    }
}

fn output_sensitivity((output, error): &(String, OutputError)) -> v1::OutputSensitivity {
    let figure = |metric| error.figure(metric);
    v1::OutputSensitivity {
        output: output.clone(),
        sqnr: figure(Metric::Sqnr),
        cosine: figure(Metric::Cosine),
        l1: figure(Metric::L1),
        mse: figure(Metric::Mse),
        atol: figure(Metric::Atol),
        rtol: figure(Metric::Rtol),
        kl: figure(Metric::Kl),
    }
}

fn way(measured: WayMeasured) -> v1::WayMeasured {
    let fitted = measured.fitted.as_ref();
    v1::WayMeasured {
        way: measured.name(),
        weight_bytes: measured.weight_bytes,
        fit: fitted.map_or_else(String::new, |fitted| fitted.fit.made.clone()),
        held_out_gain_db: fitted
            .map(|fitted| fitted.gain_db)
            .filter(|db| db.is_finite()),
        legal: measured.legal,
        reason: measured.reason,
        metrics: Some(metrics(&measured.metrics)),
        macs: measured.macs,
        zero_fraction: measured.zero_fraction,
        clip_fraction: measured.clip_fraction,
        accumulator_bits: measured.accumulator_bits,
        estimate: Some(estimate(&measured.cost.estimate)),
    }
}

fn estimate(estimate: &Estimate) -> v1::CostEstimate {
    v1::CostEstimate {
        latency_us: estimate.latency_us,
        compute_us: estimate.compute_us,
        load_us: estimate.load_us,
        store_us: estimate.store_us,
        bound: estimate.bound.to_string(),
    }
}

fn metrics(metrics: &Metrics) -> v1::Metrics {
    let Metrics {
        sqnr_db,
        cosine,
        l1,
        mse,
        atol,
        lsb,
        left_out,
        ..
    } = *metrics;
    v1::Metrics {
        sqnr_db,
        cosine,
        l1,
        mse,
        atol,
        lsb,
        reason: metrics.reason.clone(),
        left_out,
    }
}

#[cfg(test)]
mod tests {
    use dual16_quant::{
        cost::{Bound, OpCost},
        flow::{LayerMeasured, Notice, WayFitted},
        plan::LinearFit,
    };

    use super::*;

    fn measured(sqnr_db: Option<f64>) -> Metrics {
        Metrics {
            sqnr_db,
            cosine: Some(0.5),
            l1: Some(1.0),
            mse: Some(2.0),
            atol: Some(3.0),
            lsb: None,
            reason: "because".to_owned(),
            left_out: 7,
        }
    }

    #[test]
    fn a_layer_keeps_every_figure_and_its_ways_their_names() {
        let way = WayMeasured {
            way: "a16w8".parse().unwrap(),
            fitted: Some(WayFitted {
                fit: LinearFit {
                    fit: "eq+gptq".parse().unwrap(),
                    made: "eq0.5+gptq".to_owned(),
                    blob: String::new(),
                    clip: 1.0,
                    inside: None,
                },
                gain_db: 18.5,
            }),
            weight_bytes: 99,
            legal: false,
            reason: "because".to_owned(),
            metrics: measured(Some(48.7)),
            macs: 6,
            zero_fraction: 0.1,
            clip_fraction: 0.2,
            accumulator_bits: 31,
            cost: OpCost {
                estimate: Estimate {
                    latency_us: 5.0,
                    compute_us: 3.0,
                    load_us: 1.0,
                    store_us: 0.5,
                    bound: Bound::Vector,
                },
                ..OpCost::default()
            },
        };
        let event = Event::Layer(LayerMeasured {
            layer: "linear2".to_owned(),
            op: "Linear".to_owned(),
            requested: "auto".to_owned(),
            effective: "mul_sum".parse().unwrap(),
            fit: None,
            reason: String::new(),
            ways: vec![way],
        });
        let Some(Detail::LayerMeasured(layer)) = event_detail(event).detail else {
            panic!("another event came out");
        };
        assert_eq!(
            (layer.requested.as_str(), layer.effective.as_str()),
            ("auto", "mul_sum")
        );
        let expected = v1::WayMeasured {
            way: "a16w8+eq+gptq".to_owned(),
            fit: "eq0.5+gptq".to_owned(),
            held_out_gain_db: Some(18.5),
            weight_bytes: 99,
            legal: false,
            reason: "because".to_owned(),
            metrics: Some(v1::Metrics {
                sqnr_db: Some(48.7),
                cosine: Some(0.5),
                l1: Some(1.0),
                mse: Some(2.0),
                atol: Some(3.0),
                lsb: None,
                reason: "because".to_owned(),
                left_out: 7,
            }),
            macs: 6,
            zero_fraction: 0.1,
            clip_fraction: 0.2,
            accumulator_bits: 31,
            estimate: Some(v1::CostEstimate {
                latency_us: 5.0,
                compute_us: 3.0,
                load_us: 1.0,
                store_us: 0.5,
                bound: "vector".to_owned(),
            }),
        };
        assert_eq!(layer.ways, [expected]);
    }

    #[test]
    fn a_notice_keeps_its_severity() {
        for (warning, severity) in [(true, Severity::Warning), (false, Severity::Info)] {
            let (code, subject, message) = (String::new(), String::new(), String::new());
            let event = Event::Notice(Notice {
                warning,
                code,
                subject,
                message,
            });
            let Some(Detail::Notice(notice)) = event_detail(event).detail else {
                panic!("another event came out");
            };
            assert_eq!(notice.severity(), severity);
        }
    }
}
