//! What cannot be run rightly ends a plan, and not a run after it: by node and reason.

use std::{collections::HashMap, path::Path};

use dual16_quant::{job::JobKind, onnx::f32_value, settings::Settings};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use crate::{
    made::Made,
    support::{curve, job, run},
};

const SHAPE: [usize; 4] = [1, 1, 5, 4];

/// Beside a Linear; the lengths of `x` are told or not.
fn plan(made: Made, told: bool) -> String {
    let mut made = made
        .constant("w", &[4, 4], &curve(16, 0.7))
        .node("MatMul", &["x", "w"], &["y"]);
    let dims = SHAPE.map(|length| told.then_some(length));
    made.graph.input = vec![f32_value("x", Some(&dims))];
    made.graph.output.push(f32_value("z", None));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(folder.path().join("calib")).unwrap();
    let x = curve(SHAPE.iter().product(), 0.9);
    write(&folder.path().join("calib/000.safetensors"), &x);
    let mut job = job(folder.path().to_str().unwrap(), Settings::default());
    job.kind = JobKind::Plan;
    job.evaluation = Vec::new();
    run(&job).err().unwrap().to_string()
}

fn write(path: &Path, x: &[f32]) {
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, SHAPE.to_vec(), &bytes).unwrap();
    serialize_to_file(HashMap::from([("x", view)]), None, path).unwrap();
}

#[test]
fn corners_that_cannot_be_aligned_are_refused_when_planned() {
    for told in [true, false] {
        let resized = Made::new(&[])
            .constant("scales", &[4], &[1.0, 1.0, 1.5, 1.0])
            .node("Resize", &["x", "", "scales"], &["z"])
            .named("up")
            .text("mode", "linear")
            .text("coordinate_transformation_mode", "align_corners");
        let text = plan(resized, told);
        let says = [
            "node 'up' (operator Resize)",
            "7.5 elements",
            "sizes instead of scales",
        ];
        assert!(says.iter().all(|part| text.contains(part)), "{text}");

        let grid = Made::new(&[])
            .opset(20)
            .constant("theta", &[1, 2, 3], &curve(6, 0.4));
        // A size that is known, or only with the batch.
        let grid = match told {
            true => grid.indices("size", &[1, 1, 3, 1]),
            false => grid
                .node("Shape", &["x"], &["shape"])
                .indices("at", &[0, 1, 2, 0])
                .node("Gather", &["shape", "at"], &["size"]),
        };
        let grid = grid
            .node("AffineGrid", &["theta", "size"], &["z"])
            .named("grid")
            .int("align_corners", 1);
        let text = plan(grid, told);
        let says = [
            "node 'grid' (operator AffineGrid)",
            "length 1 has no two corners",
        ];
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// What a batch gives is known when it is run only.
#[test]
fn nan_that_a_node_would_hide_in_a_later_batch_ends_the_job() {
    let mut made = Made::new(&[])
        .constant("w", &[4, 4], &curve(16, 0.7))
        .node("Log", &["x"], &["log"])
        .node("Relu", &["log"], &["positive"])
        .named("hides")
        .node("MatMul", &["positive", "w"], &["y"]);
    made.graph.input = vec![f32_value("x", Some(&SHAPE.map(Some)))];
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), made.encode()).unwrap();
    std::fs::create_dir(folder.path().join("calib")).unwrap();
    for (number, first) in [2.0, -1.0].into_iter().enumerate() {
        let mut x = [3.0; 20];
        x[0] = first;
        let path = format!("calib/{number:03}.safetensors");
        write(&folder.path().join(path), &x);
    }
    let mut job = job(folder.path().to_str().unwrap(), Settings::default());
    job.evaluation = Vec::new();
    let text = run(&job).err().unwrap().to_string();
    let says = ["node 'hides' (operator Relu)", "NaN"];
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
    job.calibration.pop();
    assert!(run(&job).is_ok());
}
