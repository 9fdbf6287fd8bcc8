//! What the flow reports, as the API's events. Nothing is decided here.

use dual16_proto::v1::{self, EventDetail, event_detail::Detail, notice::Severity};
use dual16_quant::{
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
        Event::Accumulated(layer) => Detail::LayerAccumulated(v1::LayerAccumulated {
            layer: layer.layer,
            validation: Some(metrics(&layer.validation)),
            converted: Some(metrics(&layer.converted)),
        }),
        Event::Output(output) => Detail::OutputMeasured(v1::OutputMeasured {
            output: output.output,
            validation: Some(metrics(&output.validation)),
            converted: Some(metrics(&output.converted)),
        }),
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
    } = *metrics;
    v1::Metrics {
        sqnr_db,
        cosine,
        l1,
        mse,
        atol,
        lsb,
    }
}
