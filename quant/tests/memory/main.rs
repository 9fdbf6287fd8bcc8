//! What tasks promise to hold against what they hold, with every allocation counted; and jobs that
//! have too little. One test, because the count is the process's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their modules are shared"
)]

#[path = "../flow/support.rs"]
#[allow(dead_code, reason = "shared with the flow's tests")]
mod support;

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use dual16_quant::{
    Error, InputLimits,
    flow::{Executor, JobInput, JobKind, ModelInput},
    job::Analyze,
    memory::{Held, Kind, Lender, MemoryBudget},
    metrics::Metric,
    observe::{ObserverKind, Percentile},
    settings::{SettingValue, Settings},
};
use ndarray::Array4;
use ndarray_npy::NpzWriter;
use peak_alloc::PeakAlloc;
use safetensors::{Dtype, tensor::TensorView};
use support::{Finished, batches, file, job, run_on, settings};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Layers of the generated job, each `[SIDE, SIDE]`; six of them are one task of evaluate.
const LAYERS: usize = 96;
const SIDE: usize = 256;

#[test]
fn estimates_hold_and_a_job_fits_what_it_is_given() {
    let auto = || settings(&[("*", SettingValue::Way("auto".parse().unwrap()))]);
    for model in ["smallmodel", "digits"] {
        within_promise(model, &job(model, auto()));
        // Every fit of every layer.
        let mut fitted = job(model, settings(&[]));
        fitted.settings.min_layer_sqnr = 200.0;
        fitted.digest += " fitted";
        within_promise(&format!("{model}, fitted"), &fitted);
        let mut mended = job(model, settings(&[]));
        mended.settings.min_output_sqnr = 50.0;
        mended.digest += " mended";
        within_promise(&format!("{model}, mended"), &mended);
        let mut analyzed = job(model, settings(&[]));
        analyzed.kind = JobKind::Analyze(Analyze {
            exact: None,
            outputs: Vec::new(),
            metric: Metric::Sqnr,
        });
        analyzed.digest += " analyzed";
        within_promise(&format!("{model}, analyzed"), &analyzed);
    }
    let folder = tempfile::tempdir().unwrap();
    let job = wide_layers(folder.path(), auto());
    let (promised, plenty) = within_promise("wide layers", &job);

    // With less than all ways of a group of layers need at once they are measured in parts, to the
    // same bytes.
    let (mut refused, mut enough) = (promised / 2, promised);
    let mut scarce = None;
    while enough - refused > 1 << 17 {
        let limit = refused.midpoint(enough);
        match run_within(&job, limit) {
            Ok(finished) => (enough, scarce) = (limit, Some(finished)),
            Err(Error::Memory { .. }) => refused = limit,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(enough < promised - (1 << 18), "{enough} of {promised}");
    assert_eq!(scarce.unwrap().files, plenty.files);

    // An archive whose batches are unpacked together, and sketches of all of them.
    let stacked = stacked_batches(folder.path());
    within_promise("a stack of batches", &stacked);
    let zeros = unpacked_to_a_thousand_times(folder.path());
    refused_before_it_is_read(&zeros, 48 << 20);

    // Far too little: refused with the figures, not killed.
    let refused = run_within(&job, 1 << 20).err().unwrap();
    assert!(matches!(refused, Error::Memory { .. }), "{refused}");
    assert!(refused.retryable(), "another worker may have more");
    for part in ["weights.safetensors", "1 MiB", "--memory-limit"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
}

/// Lends whatever is asked for: what is lent, and the most that ever was.
#[derive(Debug, Default)]
struct Promises(Mutex<(Held, u64)>);

impl Lender for Promises {
    fn limit(&self) -> Option<u64> {
        None
    }

    fn held(&self) -> Held {
        self.0.lock().unwrap().0
    }

    fn take(&self, kind: Kind, bytes: u64, _: Duration) -> Result<(), Held> {
        let (held, peak) = &mut *self.0.lock().unwrap();
        held.add(kind, bytes);
        *peak = (*peak).max(held.resident + held.running);
        Ok(())
    }

    fn give_back(&self, kind: Kind, bytes: u64) {
        self.0.lock().unwrap().0.sub(kind, bytes);
    }
}

/// Runs a job without a limit; what was promised covers what was allocated. Returns the promise.
fn within_promise(name: &str, job: &JobInput) -> (u64, Finished) {
    let promises = Arc::new(Promises::default());
    let executor = Executor::new(MemoryBudget::lent(Arc::clone(&promises) as _));
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage() as u64;
    let finished = run_on(&executor, job, |_| {}).unwrap();
    let held = ALLOCATED.peak_usage() as u64 - before;
    // The runner of these tests keeps all results of a stage, and reads all files at the end.
    let kept: usize = finished.files.values().map(Vec::len).sum();
    let promised = promises.0.lock().unwrap().1;
    println!("{name}: held {held}, promised {promised}, files {kept}");
    assert!(
        held <= promised + kept as u64,
        "{name}: {held} held, {promised} promised"
    );
    assert!(
        promised <= 40 * held,
        "{name}: {promised} promised is no estimate of {held}"
    );
    (promised, finished)
}

fn run_within(job: &JobInput, limit: u64) -> dual16_quant::Result<Finished> {
    run_on(&Executor::new(MemoryBudget::new(Some(limit))), job, |_| {})
}

/// Runs a job that does not fit; it must not take what it was refused.
fn refused_before_it_is_read(job: &JobInput, limit: u64) {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage() as u64;
    let refused = run_within(job, limit).err().unwrap();
    let held = ALLOCATED.peak_usage() as u64 - before;
    assert!(matches!(refused, Error::Memory { .. }), "{refused}");
    assert!(refused.to_string().contains("b.npz"), "{refused}");
    assert!(held <= limit, "{held} of {limit}");
}

/// A job calibrated on one archive of 64 batches, with a histogram of every value of each.
fn stacked_batches(folder: &Path) -> JobInput {
    let mut state = 1u32;
    let x = Array4::from_shape_simple_fn((64, 2, 100, 256), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state as i32) as f32 / i32::MIN as f32
    });
    let settings = Settings {
        observer: ObserverKind::Percentile(Percentile::default()),
        ..settings(&[])
    };
    archived(&folder.join("stack"), &x, settings)
}

/// A job calibrated on a small file of 64 MiB.
fn unpacked_to_a_thousand_times(folder: &Path) -> JobInput {
    let zeros = Array4::<f32>::zeros((328, 2, 100, 256));
    let job = archived(&folder.join("zeros"), &zeros, settings(&[]));
    assert!(job.calibration[0].size < 1 << 20);
    job
}

fn archived(folder: &Path, x: &Array4<f32>, settings: Settings) -> JobInput {
    std::fs::create_dir(folder).unwrap();
    let path = folder.join("b.npz");
    let mut writer = NpzWriter::new_compressed(File::create(&path).unwrap());
    writer.add_array("x", x).unwrap();
    writer.finish().unwrap();
    JobInput {
        calibration: vec![file(&path)],
        evaluation: vec![],
        digest: folder.display().to_string(),
        ..job("smallmodel", settings)
    }
}

/// A layer-mode job whose weights outweigh its batches.
fn wide_layers(folder: &Path, settings: Settings) -> JobInput {
    let names: Vec<String> = (0..LAYERS).map(|layer| format!("fc{layer}")).collect();
    let weights = folder.join("weights.safetensors");
    let weight = |name: &String| (format!("{name}.weight"), vec![SIDE, SIDE]);
    write(&weights, names.iter().map(weight), 0.05);
    let calibration = folder.join("calib");
    std::fs::create_dir(&calibration).unwrap();
    for batch in 0..2 {
        let input = |name: &String| (name.clone(), vec![4 + batch, SIDE]);
        let path = calibration.join(format!("{batch}.safetensors"));
        write(&path, names.iter().map(input), 3.0);
    }
    JobInput {
        model: ModelInput::Layers {
            weights: file(&weights),
        },
        calibration: batches(&calibration),
        evaluation: vec![],
        settings,
        kind: JobKind::Quantize,
        limits: InputLimits::DEFAULT,
        digest: folder.display().to_string(),
    }
}

/// A safetensors file of values in `[-size, size)` from a linear congruential generator.
fn write(path: &Path, tensors: impl Iterator<Item = (String, Vec<usize>)>, size: f32) {
    let mut state = 1u32;
    let mut value = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state as i32) as f32 / i32::MIN as f32 * size
    };
    let made: HashMap<String, (Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let bytes = (0..count).flat_map(|_| value().to_le_bytes()).collect();
            (name, (shape, bytes))
        })
        .collect();
    let views = made.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}
