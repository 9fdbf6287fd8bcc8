//! How much a job's files may hold: set at the server, kept by the workers, told before an upload
//! where the client sees it.

use std::{fs::File, io::Write as _};

use dual16_quant::{InputLimits, limits::InputLimit};
use dual16_server::limits::Limits;
use dual16_tests::{
    Dual16, Finished, Results, ServerProcess, WorkerProcess,
    data::{Copy, smallmodel},
};
use zip::{ZipWriter, write::SimpleFileOptions};

#[test]
fn server_and_flow_have_the_same_defaults_and_names() {
    let served = Limits::default().report();
    for limit in InputLimit::ALL {
        let default = InputLimits::DEFAULT.of(limit);
        assert_eq!(served.get(limit.name()), Some(&default), "{limit}");
    }
}

/// Bytes of the one tensor of each batch of the model.
const BATCH_BYTES: u64 = 2 * 100 * 256 * 4;

/// Two batches that the client looks into, and one that it does not, which unpacks to more.
fn copy() -> Copy {
    let copy = Copy::of(&smallmodel(), 2);
    let mut archive = ZipWriter::new(File::create(copy.file("calib/002.npz")).unwrap());
    archive
        .start_file("x.npy", SimpleFileOptions::default())
        .unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 100, 256), }";
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    for part in [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()] {
        archive.write_all(part).unwrap();
    }
    archive
        .write_all(&0.5_f32.to_le_bytes().repeat(BATCH_BYTES as usize / 4))
        .unwrap();
    archive.finish().unwrap();
    copy
}

fn quantize(copy: &Copy, server: &ServerProcess) -> (Finished, Results) {
    let out = Results::new();
    let run = Dual16::quantize(copy.path())
        .on(server)
        .out(&out.path())
        .run();
    (run, out)
}

#[test]
fn a_worker_keeps_the_limits_of_the_server_that_there_is_and_they_change_no_figure() {
    let mut server = ServerProcess::start();
    let _worker = WorkerProcess::start(&server, "worker", 2);
    let copy = copy();
    let (run, first) = quantize(&copy, &server);
    run.success();

    // The worker has the job's model loaded, and knew another server.
    let max = format!("--limit-unpacked-bytes={BATCH_BYTES}");
    server.restart_with(&[&max]);
    let (refused, _) = quantize(&copy, &server);
    assert_eq!(refused.code(), 2, "{refused}");
    for part in ["calib/002.npz", "LIMIT_EXCEEDED", "--limit-unpacked-bytes"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
    let job = &server.ask(&["jobs", "--state", "failed"])["jobs"][0];
    let attempts = job["error"]["attempts"].as_array().unwrap().len();
    assert_eq!(attempts, 1, "bad input is tried once: {job:#}");

    server.restart_with(&["--limit-unpacked-bytes=1000000"]);
    let (run, second) = quantize(&copy, &server);
    run.success();
    assert_eq!(first.result(), second.result());
}

#[test]
fn what_the_client_sees_it_tells_before_anything_is_uploaded() {
    let server = ServerProcess::start_with(&["--limit-unpacked-bytes=1000"]);
    let (refused, out) = quantize(&copy(), &server);
    assert_eq!(refused.code(), 2, "{refused}");
    let says = format!("its tensors have {BATCH_BYTES} bytes unpacked; at most 1000 may be");
    assert!(refused.stderr.contains(&says), "{refused}");
    assert!(refused.stderr.contains("000.safetensors"), "{refused}");
    assert_eq!(out.names(), Vec::<String>::new());
    let info = server.ask(&["info"]);
    assert_eq!(info["stored_bytes"], 0, "{info:#}");
    assert_eq!(info["limits"]["unpacked_bytes"], 1000, "{info:#}");
}
