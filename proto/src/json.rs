//! The API's messages as JSON: the protos' own field names, enumerations by name, times as RFC
//! 3339, figures that are not set null. What the command line prints for programs, and what the server's
//! live page is told. `build.rs` lists the messages; here is what serde does not know of their fields.

use prost_types::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::v1::{Job, JobEvent, JobState, Priority, job_spec::Kind, notice::Severity};

/// A job. What it does not have yet is left out.
pub fn job_json(job: &Job) -> Value {
    told(job)
}

/// An event: sequence, time, and the detail under its own name.
pub fn event_json(event: &JobEvent) -> Value {
    told(event)
}

/// These messages have no map, which alone could keep them from being JSON.
fn told(message: &impl Serialize) -> Value {
    serde_json::to_value(message).unwrap_or_default()
}

pub(crate) fn time<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(to)
}

pub(crate) fn state<S: Serializer>(state: &i32, to: S) -> Result<S::Ok, S::Error> {
    let state = JobState::try_from(*state).unwrap_or_default();
    to.serialize_str(state.as_str_name())
}

pub(crate) fn priority<S: Serializer>(priority: &i32, to: S) -> Result<S::Ok, S::Error> {
    let priority = Priority::try_from(*priority).unwrap_or_default();
    to.serialize_str(priority.as_str_name())
}

/// A server of before there were priorities says nothing.
pub(crate) fn no_priority(priority: &i32) -> bool {
    Priority::try_from(*priority).unwrap_or_default() == Priority::Unspecified
}

pub(crate) fn severity<S: Serializer>(severity: &i32, to: S) -> Result<S::Ok, S::Error> {
    let severity = Severity::try_from(*severity).unwrap_or_default();
    to.serialize_str(severity.as_str_name())
}

/// A job of no other kind quantizes.
pub(crate) fn kind<S: Serializer>(kind: &Option<Kind>, to: S) -> Result<S::Ok, S::Error> {
    match kind {
        Some(kind) => kind.serialize(to),
        None => json!({"quantize": {}}).serialize(to),
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::{
        EventDetail, JobSpec, LayerAccumulated, LayerSetting, Metrics, QuantizeSpec, StateChanged,
        event_detail::Detail, job_spec, layer_setting,
    };

    use super::*;

    fn event(detail: Detail) -> Value {
        event_json(&JobEvent {
            sequence: 7,
            time: Some(Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            detail: Some(EventDetail {
                detail: Some(detail),
            }),
        })
    }

    #[test]
    fn an_event_carries_its_detail_under_its_own_name() {
        let json = event(Detail::LayerAccumulated(Box::new(LayerAccumulated {
            layer: "l".to_owned(),
            validation: Some(Metrics {
                sqnr_db: Some(13.4),
                ..Metrics::default()
            }),
            converted: None,
        })));
        assert_eq!(json["sequence"], 7);
        assert_eq!(json["time"], "1970-01-01T00:00:01Z");
        assert_eq!(json["layer_accumulated"]["validation"]["sqnr_db"], 13.4);
        assert!(json["layer_accumulated"]["converted"].is_null());
    }

    #[test]
    fn states_go_by_name_and_what_is_not_set_is_left_out() {
        let json = event(Detail::StateChanged(StateChanged {
            state: JobState::Running.into(),
            ..StateChanged::default()
        }));
        assert_eq!(json["state_changed"]["state"], "RUNNING");
        assert!(json["state_changed"].get("error").is_none());
        assert!(job_json(&Job::default()).get("end_time").is_none());
    }

    #[test]
    fn oneofs_stand_among_their_fields_under_the_name_of_what_is_set() {
        let setting = LayerSetting {
            name: "head".to_owned(),
            value: Some(layer_setting::Value::Way("split".to_owned())),
        };
        let spec = JobSpec {
            model: Some(job_spec::Model::Layers(Default::default())),
            quantize: Some(QuantizeSpec {
                settings: vec![setting],
                ..QuantizeSpec::default()
            }),
            ..JobSpec::default()
        };
        let job = |spec| Job {
            spec: Some(spec),
            ..Job::default()
        };
        let json = job_json(&job(spec.clone()));
        let spec_json = &json["spec"];
        assert_eq!(spec_json["layers"], json!({"weights": null}));
        assert_eq!(spec_json["kind"], json!({"quantize": {}}));
        assert_eq!(
            spec_json["quantize"]["settings"],
            json!([{"name": "head", "way": "split"}])
        );
        let plan = JobSpec {
            kind: Some(Kind::Plan(Default::default())),
            ..spec
        };
        assert_eq!(job_json(&job(plan))["spec"]["kind"], json!({"plan": {}}));
    }
}
