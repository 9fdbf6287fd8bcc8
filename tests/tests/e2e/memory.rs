//! A worker's declared memory holds: its resident size stays below, a job that fits in parts gives
//! the same files, and one that does not is refused with the figure.

use std::{fs, path::Path};

use dual16_tests::{
    Dual16, Results, ServerProcess, WorkerProcess,
    results::FILES,
    tensors::{self, Tensor, Tensors},
};

/// Layers of 4 MiB each in f32; together they outweigh what a small worker may hold.
const LAYERS: usize = 8;
const SIDE: usize = 1024;

#[test]
fn a_job_fits_in_what_a_worker_declares_or_is_refused_with_the_figure() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, activations) = write_job(folder.path());
    let quantize = || {
        Dual16::new(["quantize", "--linear", "*=auto", "--weights"])
            .arg(&weights)
            .arg("--activations")
            .arg(&activations)
    };

    let plenty = Results::new();
    quantize().out(&plenty.path()).run().success();

    let limit = 320;
    let server = ServerProcess::start();
    let worker = WorkerProcess::start_with(
        &server,
        "small",
        &["--memory-limit", &format!("{limit}MiB")],
    );
    let scarce = Results::new();
    quantize().on(&server).out(&scarce.path()).run().success();
    assert_eq!(scarce.names(), FILES);
    for name in FILES {
        let read = |of: &Results| fs::read(of.path().join(name)).unwrap();
        assert!(read(&plenty) == read(&scarce), "{name} differs");
    }
    let peak = worker.peak_mib();
    assert!(peak < limit, "{peak} MiB of {limit} MiB");
    worker.drain();

    let _tiny = WorkerProcess::start_with(&server, "tiny", &["--memory-limit", "128MiB"]);
    let out = Results::new();
    let refused = quantize()
        .args(["--name", "again"])
        .on(&server)
        .out(&out.path())
        .run();
    assert_eq!((refused.code(), out.names()), (1, vec![]), "{refused}");
    for part in ["weights.safetensors needs", "64 MiB", "--memory-limit"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
}

#[test]
fn a_memory_limit_that_is_none_is_explained() {
    for limit in ["1X", "64MiB"] {
        let run = WorkerProcess::refused(&["--memory-limit", limit]);
        assert_eq!(run.code(), 2, "{run}");
        assert!(run.stderr.contains("--memory-limit"), "{run}");
        assert!(
            run.stderr.contains("MiB") || run.stderr.contains("GiB"),
            "{run}"
        );
    }
}

/// A checkpoint and two batches of activations from a linear congruential generator.
fn write_job(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let mut state = 1u32;
    let mut tensor = |shape: [usize; 2], size: f32| Tensor {
        shape: shape.to_vec(),
        data: (0..shape[0] * shape[1])
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state as i32 as f32 / i32::MIN as f32 * size
            })
            .collect(),
    };
    let weights = folder.join("weights.safetensors");
    let layers: Tensors = (0..LAYERS)
        .map(|layer| (format!("fc{layer}.weight"), tensor([SIDE, SIDE], 0.05)))
        .collect();
    tensors::write(&weights, &layers);
    let activations = folder.join("activations");
    fs::create_dir(&activations).unwrap();
    for batch in 0..2 {
        let inputs: Tensors = (0..LAYERS)
            .map(|layer| (format!("fc{layer}"), tensor([16, SIDE], 3.0)))
            .collect();
        tensors::write(&activations.join(format!("{batch}.safetensors")), &inputs);
    }
    (weights, activations)
}
