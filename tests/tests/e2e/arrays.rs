//! Batches as folders of lone `.npy` files, as NumPy and the vendor's tools leave them.

use std::{fs, path::Path};

use dual16_tests::{
    Dual16, Results,
    data::{batches, smallmodel},
    tensors::{self, Tensor},
};

#[test]
fn arrays_give_the_same_bytes_as_the_files_that_hold_them() {
    let expected = Results::new();
    let run = || Dual16::new(["quantize"]).arg(smallmodel().join("model.onnx"));
    run()
        .arg("--calib")
        .arg(smallmodel().join("calib"))
        .out(&expected.path())
        .run()
        .success();
    for below in ["", "x"] {
        let folder = tempfile::tempdir().unwrap();
        write_arrays(&smallmodel().join("calib"), &folder.path().join(below));
        let out = Results::new();
        run()
            .arg("--calib")
            .arg(folder.path())
            .out(&out.path())
            .run()
            .success();
        out.assert_same_but_job(&expected);
    }
}

#[test]
fn layers_come_in_folders_too() {
    let captured = tempfile::tempdir().unwrap();
    write_arrays(
        &smallmodel().join("calib"),
        &captured.path().join("linear1"),
    );
    let out = Results::new();
    let run = Dual16::new(["quantize", "--weights"])
        .arg(smallmodel().join("float.safetensors"))
        .arg("--activations")
        .arg(captured.path())
        .out(&out.path())
        .run();
    run.success();
    let result = out.result();
    assert_eq!(result["layers"].as_array().unwrap().len(), 1);
    let notices = result["notices"].as_array().unwrap();
    let left_out = notices
        .iter()
        .find(|notice| notice["code"] == "NOT_MEASURED");
    let message = left_out.unwrap()["message"].as_str().unwrap();
    assert!(message.contains("2 of its 3"), "{message}");
    assert!(message.contains("'linear2', 'linear3'"), "{message}");
}

/// Writes tensor `x` of each batch as `NNN.npy`.
fn write_arrays(calib: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    for (number, path) in batches(calib).iter().enumerate() {
        let tensors = tensors::read(path);
        fs::write(into.join(format!("{number}.npy")), npy(&tensors["x"])).unwrap();
    }
}

fn npy(tensor: &Tensor) -> Vec<u8> {
    let shape: String = tensor
        .shape
        .iter()
        .map(|length| format!("{length}, "))
        .collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let elements = tensor.data.iter().flat_map(|x| x.to_le_bytes());
    let start = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat();
    start.into_iter().chain(elements).collect()
}
