//! What the flow reports, as the API's events. Nothing is decided here.

use dual16_proto::v1::{self, EventDetail, event_detail::Detail, notice::Severity};
use dual16_quant::{
    cost::Estimate,
    flow::{Event, WayMeasured},
    metrics::Metrics,
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
            layer: layer.layer,
            op: layer.op,
            requested: layer.requested,
            effective: layer.effective.to_string(),
            reason: layer.reason,
            ways: layer.ways.into_iter().map(way).collect(),
        }),
        Event::Accumulated(layer) => Detail::LayerAccumulated(Box::new(v1::LayerAccumulated {
            layer: layer.layer,
            validation: Some(metrics(&layer.validation)),
            converted: Some(metrics(&layer.converted)),
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

fn way(measured: WayMeasured) -> v1::WayMeasured {
    v1::WayMeasured {
        way: measured.way.to_string(),
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
        flow::{LayerMeasured, Notice},
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
            way: "split".parse().unwrap(),
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
            way: "split".to_owned(),
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
