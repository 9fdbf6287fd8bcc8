//! What a user relies on beside the figures: order does not matter, names are checked, nothing
//! falls back silently.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Folder, job, run, run_in_order, run_on, settings};
use dual16_nash::{IntDtype, Toolchain, Way};
use dual16_quant::{
    Error, InputLimits,
    flow::{Control, Event, Executor, Part, TaskInput},
    memory::MemoryBudget,
    report::Notice,
    settings::{SettingValue, Settings, Template, WayChoice},
};

fn way(way: Way) -> SettingValue {
    SettingValue::Way(WayChoice::Fixed(way))
}

#[test]
fn the_order_of_tasks_changes_no_byte() {
    let mut job = job(
        "digits",
        settings(&[("*", SettingValue::Way(WayChoice::Auto))]),
    );
    job.settings.save_outputs = true;
    let forwards = run(&job).unwrap();
    let stages: Vec<(&str, usize)> = forwards
        .stages
        .iter()
        .map(|(name, maps)| (name.as_str(), *maps))
        .collect();
    assert_eq!(
        stages,
        [
            ("plan", 0),
            ("observe", 8),
            ("evaluate", 9),
            ("validate", 1),
            ("convert", 10)
        ]
    );
    let backwards = run_in_order(&job, |indices| indices.reverse()).unwrap();
    let names: Vec<_> = forwards.files.keys().collect();
    assert!(
        names.contains(&&"handoff/model_qdq.onnx".to_owned()),
        "{names:?}"
    );
    assert_eq!(names, backwards.files.keys().collect::<Vec<_>>());
    for (name, bytes) in &forwards.files {
        assert!(*bytes == backwards.files[name], "{name} differs");
    }
}

#[test]
fn an_unknown_layer_is_an_error_with_the_nearest_names() {
    let error = run(&job(
        "smallmodel",
        settings(&[("linaer2", way(Way::Split))]),
    ))
    .err()
    .unwrap();
    assert!(matches!(error, Error::UnknownName { .. }), "{error}");
    assert!(error.to_string().contains("linear2"), "{error}");
}

#[test]
fn an_illegal_way_is_an_error_that_lists_the_legal_ones() {
    let error = run(&job(
        "smallmodel",
        settings(&[("linear2", way(Way::A16W16))]),
    ))
    .err()
    .unwrap();
    let text = error.to_string();
    for part in ["linear2", "a16w16", "oe-3.1", "mul_sum", "split"] {
        assert!(text.contains(part), "'{part}' is missing: {text}");
    }
}

#[test]
fn a_fixed_scale_must_be_positive() {
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let setting = [("linear2.mul", SettingValue::FixedScale(scale))];
        let error = run(&job("smallmodel", settings(&setting))).err().unwrap();
        assert!(error.to_string().contains("linear2.mul"), "{error}");
    }
}

#[test]
fn a_fixed_product_scale_clips_what_lies_above_it() {
    let fixed = f64::from(7.0f32 / 32767.0);
    let by_name = [
        ("linear2", way(Way::MulSum)),
        ("linear2.mul", SettingValue::FixedScale(fixed)),
    ];
    let result = run(&job("smallmodel", settings(&by_name)))
        .unwrap()
        .result();
    let free = run(&job("smallmodel", settings(&by_name[..1])))
        .unwrap()
        .result();
    let clipped =
        |result: &serde_json::Value| result["layers"][1]["clip_fraction"].as_f64().unwrap();
    assert!(
        clipped(&result) > 100.0 * clipped(&free),
        "{} {}",
        clipped(&result),
        clipped(&free)
    );
}

#[test]
fn a_template_that_the_toolchain_cannot_run_falls_back_loudly() {
    let mut settings = Settings {
        template: Template::A16W16,
        ..Settings::default()
    };
    settings.min_layer_sqnr = f64::NEG_INFINITY;
    let finished = run(&job("smallmodel", settings.clone())).unwrap();
    let layer = &finished.result()["layers"][0];
    assert_eq!(
        (&layer["requested"], &layer["effective"]),
        (&"a16w16".into(), &"a16w8".into())
    );
    assert!(
        layer["reason"]
            .as_str()
            .unwrap()
            .contains("one int16 operand"),
        "{layer}"
    );
    let notices = finished
        .events
        .iter()
        .filter(|event| matches!(event, Event::Notice(_)));
    assert_eq!(notices.count(), 3, "one for each layer");
    settings.toolchain = Toolchain::Oe32;
    let layer = &run(&job("smallmodel", settings)).unwrap().result()["layers"][0];
    assert_eq!(layer["effective"], "a16w16");
}

#[test]
fn under_an_int8_template_a_layer_that_reads_int16_raises_its_producer() {
    let by_name = [("linear2", way(Way::Split))];
    let settings = Settings {
        template: Template::A8W8,
        min_layer_sqnr: f64::NEG_INFINITY,
        ..settings(&by_name)
    };
    let finished = run(&job("smallmodel", settings)).unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    let relu = &plan["tensors"]["relu"];
    assert_eq!(
        (&relu["requested"], &relu["effective"]),
        (&"int8".into(), &"int16".into())
    );
    assert_eq!(plan["tensors"]["linear1"]["effective"], "int8");
}

#[test]
fn a_dtype_set_by_name_is_kept_and_the_layer_requantizes() {
    let by_name = [
        ("relu", SettingValue::Dtype(IntDtype::Int8)),
        ("linear2", way(Way::A16W8)),
    ];
    let finished = run(&job("smallmodel", settings(&by_name))).unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    assert_eq!(plan["tensors"]["relu"]["effective"], "int8");
    assert_eq!(plan["operands"][0]["node"], "linear2");
    assert_eq!(plan["operands"][0]["effective"], "int16");
}

#[test]
fn attention_says_which_operand_runs_int8_before_oe_3_2() {
    let finished = run(&job("digits", settings(&[]))).unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    let operands = plan["operands"].as_array().unwrap();
    assert_eq!(
        operands.len(),
        4,
        "two products of activations in each of two blocks"
    );
    assert!(operands.iter().all(|operand| operand["operand"] == 1));
    let newer = Settings {
        toolchain: Toolchain::Oe32,
        ..Settings::default()
    };
    let finished = run(&job("digits", newer)).unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&finished.files["plan.json"]).unwrap();
    assert_eq!(plan["operands"].as_array().unwrap().len(), 0);
}

#[test]
fn every_observer_and_merge_gets_through() {
    for observer in ["minmax", "mse", "percentile", "kl"] {
        for merge in ["exact", "ema"] {
            let settings = Settings {
                observer: observer.parse().unwrap(),
                merge: merge.parse().unwrap(),
                ..settings(&[("linear2", SettingValue::Way(WayChoice::Auto))])
            };
            let result = run(&job("smallmodel", settings)).unwrap().result();
            let sqnr = result["outputs"][0]["converted"]["sqnr_db"]
                .as_f64()
                .unwrap();
            println!("{observer} {merge}: {sqnr:.2} dB");
            assert!(sqnr > 15.0, "{observer} {merge}: {sqnr} dB");
        }
    }
}

#[test]
fn a_setting_that_can_have_no_effect_is_said() {
    let observer = SettingValue::Observer(dual16_quant::observe::ObserverKind::Mse);
    let fails = |name: &'static str, value: &SettingValue, model: &str| {
        let error = run(&job(model, settings(&[(name, value.clone())])));
        error.err().unwrap().to_string()
    };
    let weight = fails("linear2.weight", &observer, "smallmodel");
    assert!(weight.contains("fixed scale"), "{weight}");
    let moved = fails(
        "blocks.0.transpose",
        &SettingValue::Dtype(IntDtype::Int8),
        "digits",
    );
    assert!(moved.contains("'blocks.0.q'"), "{moved}");

    let by_name = [
        ("linear2", way(Way::Split)),
        ("linear2.mul", SettingValue::FixedScale(0.001)),
    ];
    let finished = run(&job("smallmodel", settings(&by_name))).unwrap();
    let unused = |event: &Event| {
        matches!(event, Event::Notice(notice)
            if notice.code == "UNUSED_SETTING" && notice.subject == "linear2.mul")
    };
    assert!(finished.events.iter().any(unused));

    // A glob over all of a layer means the tensors that are there.
    let by_glob = [("linear2*", observer)];
    let finished = run(&job("smallmodel", settings(&by_glob))).unwrap();
    let unused = notices(&finished.events, "UNUSED_SETTING");
    assert!(unused.is_empty(), "{unused:?}");
}

fn notices<'a>(events: &'a [Event], code: &str) -> Vec<&'a Notice> {
    let notices = events.iter().filter_map(|event| match event {
        Event::Notice(notice) => Some(notice),
        _ => None,
    });
    notices.filter(|notice| notice.code == code).collect()
}

#[test]
fn what_nobody_asked_for_by_name_is_no_warning() {
    let finished = run(&job("digits", settings(&[]))).unwrap();
    let told = notices(&finished.events, "DTYPE_FALLBACK");
    assert!(
        !told.is_empty() && told.iter().all(|notice| !notice.warning),
        "{told:?}"
    );
}

#[test]
fn a_scale_that_clips_much_is_warned_of_and_moves_nothing_to_the_vector_unit() {
    let mut asked = settings(&[("linear1", SettingValue::FixedScale(7.0 / 32767.0))]);
    asked.template = Template::A8W8;
    let finished = run(&job("smallmodel", asked)).unwrap();
    let told = notices(&finished.events, "CLIPPED");
    let warned = told
        .iter()
        .any(|notice| notice.warning && notice.subject == "linear1");
    assert!(warned, "{told:?}");
    let vector = |event: &Event| {
        matches!(event, Event::Layer(layer)
            if layer.layer == "linear1" && layer.effective == Way::MulSum)
    };
    assert!(!finished.events.iter().any(vector));
}

#[test]
fn limits_change_no_byte_and_those_of_another_task_do_not_count() {
    let executor = Executor::new(MemoryBudget::new(None));
    let mut job = job("smallmodel", settings(&[]));
    let first = run_on(&executor, &job, |_| {}).unwrap();
    // The model is loaded, but under limits that are no longer those of the job.
    job.limits.model_nodes = 1;
    let refused = run_on(&executor, &job, |_| {}).err().unwrap();
    assert_eq!(refused.code(), "LIMIT_EXCEEDED", "{refused}");
    job.limits = InputLimits::NONE;
    let second = run_on(&executor, &job, |_| {}).unwrap();
    assert!(first.files == second.files, "the artifacts differ");
}

/// Cancelled from the ask after `left` more on.
struct Patience {
    left: AtomicUsize,
}

impl Control for Patience {
    fn cancelled(&self) -> bool {
        let left = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_err()
    }
}

#[test]
fn a_job_is_cancelled_while_its_model_is_loaded() {
    let (executor, blobs) = (Executor::new(MemoryBudget::new(None)), Folder::new());
    let job = job("digits", settings(&[]));
    let plan = TaskInput {
        job: &job,
        stage: "plan",
        part: Part::Reduce,
        payload: &[],
        inputs: &[],
    };
    let run = |asks: usize| {
        let left = AtomicUsize::new(asks);
        executor.run(&plan, &blobs, &Patience { left })
    };
    let asked = (0..1000).find(|&asks| match run(asks) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), "CANCELLED", "{error}");
            false
        }
    });
    // Once for each of its weights at least.
    assert!(asked.is_some_and(|asked| asked > 20), "{asked:?}");
    // It is loaded now, and the task itself asks no more.
    run(0).unwrap();
}
