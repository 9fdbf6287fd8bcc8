//! Batch files: formats, types, stacks, and what is said of those that do not fit.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use crate::shared::{LIMITS, data};
use dual16_quant::{
    batch::BatchFile,
    model::{ElementKind, InputShape, InputSpec, Model},
    tensor::Datum,
};
use ndarray::{Array2, Array3, arr1, arr2};
use ndarray_npy::NpzWriter;
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

fn spec(name: &str, kind: ElementKind, dims: &[Option<usize>]) -> InputSpec {
    InputSpec {
        name: name.to_owned(),
        kind,
        shape: InputShape::Ranked(dims.to_vec()),
    }
}

fn floats(dims: &[Option<usize>]) -> [InputSpec; 1] {
    [spec("x", ElementKind::F32, dims)]
}

/// A file with one tensor, `x`.
fn file(folder: &TempDir, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> PathBuf {
    named(folder, &[("x", dtype, shape, bytes)])
}

fn named(folder: &TempDir, tensors: &[(&str, Dtype, &[usize], &[u8])]) -> PathBuf {
    let views = tensors.iter().map(|&(name, dtype, shape, bytes)| {
        (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
    });
    let path = folder.path().join("b.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn open_error(name: &str, path: &Path, inputs: &[InputSpec]) -> String {
    match BatchFile::open(name, path, inputs, LIMITS) {
        Ok(mut file) => file.read(0).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_float_type_becomes_f32() {
    let folder = tempfile::tempdir().unwrap();
    let f64s: Vec<u8> = [1.5_f64, -2.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let f16s: Vec<u8> = [0x3e00_u16, 0xc000]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let bf16s: Vec<u8> = [0x3fc0_u16, 0xc000]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let cases = [
        (Dtype::F32, bytes_of(&[1.5, -2.0])),
        (Dtype::F64, f64s),
        (Dtype::F16, f16s),
        (Dtype::BF16, bf16s),
    ];
    for (dtype, bytes) in cases {
        let path = file(&folder, dtype, &[2], &bytes);
        let mut batch =
            BatchFile::open("b.safetensors", &path, &floats(&[Some(2)]), LIMITS).unwrap();
        let x = batch.read(0).unwrap();
        assert_eq!(x["x"], Datum::F32(arr1(&[1.5, -2.0]).into_dyn()), "{dtype}");
    }
}

#[test]
fn integers_become_thirty_two_bits() {
    let folder = tempfile::tempdir().unwrap();
    let i64s: Vec<u8> = [3_i64, -4].iter().flat_map(|x| x.to_le_bytes()).collect();
    let i32s: Vec<u8> = [3_i32, -4].iter().flat_map(|x| x.to_le_bytes()).collect();
    let inputs = [spec("x", ElementKind::I32, &[None])];
    for (dtype, bytes) in [(Dtype::I64, i64s), (Dtype::I32, i32s)] {
        let path = file(&folder, dtype, &[2], &bytes);
        let mut batch = BatchFile::open("b.safetensors", &path, &inputs, LIMITS).unwrap();
        assert_eq!(
            batch.read(0).unwrap()["x"],
            Datum::I32(arr1(&[3, -4]).into_dyn())
        );
    }
    let path = file(&folder, Dtype::BOOL, &[2], &[1, 0]);
    let mut batch = BatchFile::open("b.safetensors", &path, &inputs, LIMITS).unwrap();
    assert_eq!(
        batch.read(0).unwrap()["x"],
        Datum::I32(arr1(&[1, 0]).into_dyn())
    );

    let wide: Vec<u8> = [1_i64 << 40].iter().flat_map(|x| x.to_le_bytes()).collect();
    let path = file(&folder, Dtype::I64, &[1], &wide);
    let text = open_error("b.safetensors", &path, &inputs);
    assert_eq!(
        text,
        "b.safetensors: tensor 'x': it holds 1099511627776 at index [0], which does not fit 32 bits; \
         64-bit integers are run in 32 bits, as far as they fit"
    );
}

#[test]
fn a_dimension_that_the_model_leaves_open_may_be_0() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = floats(&[None, Some(3)]);
    let path = file(&folder, Dtype::F32, &[0, 3], &[]);
    let mut batch = BatchFile::open("b.safetensors", &path, &inputs, LIMITS).unwrap();
    assert_eq!(batch.read(0).unwrap()["x"].shape(), [0, 3]);
    assert_eq!(batch.empty_inputs().collect::<Vec<_>>(), ["x"]);

    let path = npz(&folder, |writer| {
        writer
            .add_array("x", &Array3::<f32>::zeros((2, 0, 3)))
            .unwrap();
    });
    let mut stack = BatchFile::open("b.npz", &path, &inputs, LIMITS).unwrap();
    assert_eq!(stack.count(), 2);
    assert!(
        stack
            .batches()
            .all(|batch| batch.unwrap()["x"].shape() == [0, 3])
    );
}

#[test]
fn a_leading_axis_more_is_a_stack() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        Dtype::F32,
        &[3, 1, 2],
        &bytes_of(&[1., 2., 3., 4., 5., 6.]),
    );
    let mut stack =
        BatchFile::open("b.safetensors", &path, &floats(&[Some(1), Some(2)]), LIMITS).unwrap();
    assert_eq!(stack.count(), 3);
    let batches: Vec<Datum> = stack
        .batches()
        .map(|batch| batch.unwrap()["x"].clone())
        .collect();
    let wanted =
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].map(|row| Datum::F32(arr2(&[row]).into_dyn()));
    assert_eq!(batches, wanted);
    let beyond = stack.read(3).unwrap_err().to_string();
    assert_eq!(
        beyond,
        "b.safetensors: it holds 3 batches, there is none at 3"
    );
}

#[test]
fn the_evaluation_files_of_the_samples_are_stacks() {
    let model = Model::load("model.onnx", &data("digits/model.onnx"), &[], LIMITS).unwrap();
    let path = data("digits/eval.safetensors");
    let mut file = BatchFile::open("eval.safetensors", &path, model.inputs(), LIMITS).unwrap();
    assert_eq!((file.count(), file.name()), (16, "eval.safetensors"));
    assert_eq!(file.ignored_keys(), ["label", "logits"]);
    let shapes: Vec<Vec<usize>> = file
        .batches()
        .map(|batch| batch.unwrap()["x"].shape().to_vec())
        .collect();
    assert_eq!(shapes, vec![vec![32, 8, 8]; 16]);
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let six = bytes_of(&[1., 2., 3., 4., 5., 6.]);
    let two = [Some(1), Some(2)];
    let cases: [(&[usize], &[InputSpec], &str); 4] = [
        (
            &[2, 3],
            &floats(&two),
            "tensor 'x' has shape [2, 3]; input 'x' needs [1, 2], or with one",
        ),
        (
            &[6],
            &floats(&two),
            "tensor 'x' has shape [6]; input 'x' needs [1, 2]",
        ),
        (
            &[2, 3],
            &floats(&[None, Some(4)]),
            "tensor 'x' has shape [2, 3]; input 'x' needs [*, 4]",
        ),
        (
            &[2, 3],
            &[spec("ids", ElementKind::I32, &[None])],
            "input 'ids' is missing; the file has 'x'",
        ),
    ];
    for (shape, inputs, part) in cases {
        let path = file(&folder, Dtype::F32, shape, &six);
        let text = open_error("b.safetensors", &path, inputs);
        assert!(
            text.starts_with("b.safetensors: ") && text.contains(part),
            "{text}"
        );
    }

    let path = file(&folder, Dtype::F32, &[0, 3], &[]);
    let text = open_error("b.safetensors", &path, &floats(&[Some(2), Some(3)]));
    assert!(
        text.contains("'x' has shape [0, 3]; input 'x' needs [2, 3]"),
        "{text}"
    );
    let text = open_error("b.safetensors", &path, &floats(&[Some(3)]));
    assert_eq!(
        text,
        "b.safetensors: tensor 'x' has shape [0, 3], a stack of no batch; input 'x' needs [3]"
    );

    let path = file(&folder, Dtype::F8_E4M3, &[1], &[0]);
    let text = open_error("b.safetensors", &path, &floats(&[None]));
    let wanted = "tensor 'x': its dtype is none of float32, float64, float16, bfloat16, bool and \
                  integers of 8 to 64 bits: it is F8_E4M3";
    assert_eq!(text, format!("b.safetensors: {wanted}"));

    let (one, two) = (bytes_of(&[1.0]), bytes_of(&[1.0, 2.0]));
    let path = named(
        &folder,
        &[
            ("x", Dtype::F32, &[2, 1], &two),
            ("z", Dtype::F32, &[1], &one),
        ],
    );
    let inputs = [
        spec("x", ElementKind::F32, &[Some(1)]),
        spec("z", ElementKind::F32, &[Some(1)]),
    ];
    let text = open_error("b.safetensors", &path, &inputs);
    assert!(
        text.contains("tensor 'z' holds a single batch, but 'x' holds a stack of 2"),
        "{text}"
    );
}

#[test]
fn nan_and_infinity_are_named_with_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let dims = [Some(1), Some(2)];
    let path = file(&folder, Dtype::F32, &[1, 2], &bytes_of(&[1.0, f32::NAN]));
    let text = open_error("b.safetensors", &path, &floats(&dims));
    let wanted =
        "b.safetensors: tensor 'x' has NaN at index [0, 1]; only finite values can be quantized";
    assert_eq!(text, wanted);

    let path = file(
        &folder,
        Dtype::F32,
        &[2, 1, 2],
        &bytes_of(&[1., 2., 3., f32::NEG_INFINITY]),
    );
    let mut stack = BatchFile::open("b.safetensors", &path, &floats(&dims), LIMITS).unwrap();
    assert!(stack.read(0).is_ok());
    let text = stack.read(1).unwrap_err().to_string();
    assert!(
        text.contains("tensor 'x' has -inf at index [1, 0, 1]"),
        "{text}"
    );
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(data("smallmodel/calib/000.safetensors")).unwrap();
    let path = folder.path().join("b.safetensors");
    let cases: [(&[u8], &str); 5] = [
        (b"", "it has only 0 bytes"),
        (&whole[..whole.len() - 1], "truncated or damaged"),
        (&whole[..20], "a truncated one"),
        (
            &[0xff; 64],
            "a header of 18446744073709551615 bytes in a file of 64",
        ),
        (b"\x02\0\0\0\0\0\0\0[]", "damaged safetensors header"),
    ];
    for (bytes, part) in cases {
        std::fs::write(&path, bytes).unwrap();
        let text = open_error("b.safetensors", &path, &floats(&[None]));
        assert!(
            text.starts_with("b.safetensors: ") && text.contains(part),
            "{text}"
        );
    }
    let text = open_error("gone.safetensors", &folder.path().join("gone"), &[]);
    assert!(text.starts_with("gone.safetensors: "), "{text}");
    let text = open_error("batch.pt", &path, &[]);
    assert_eq!(text, "batch.pt: batches are .safetensors or .npz files");
}

fn npz(folder: &TempDir, fill: impl FnOnce(&mut NpzWriter<File>)) -> PathBuf {
    let path = folder.path().join("b.npz");
    let mut writer = NpzWriter::new_compressed(File::create(&path).unwrap());
    fill(&mut writer);
    writer.finish().unwrap();
    path
}

#[test]
fn npz_of_every_type_and_order_and_stacks() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = [
        spec("a", ElementKind::F32, &[Some(2), None]),
        spec("b", ElementKind::F32, &[Some(2), None]),
        spec("c", ElementKind::I32, &[None]),
        spec("d", ElementKind::I32, &[None]),
    ];
    let path = npz(&folder, |writer| {
        writer
            .add_array("a", &arr2(&[[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]]))
            .unwrap();
        writer
            .add_array("b", &arr2(&[[1.0_f64, 4.0], [2.0, 5.0]]).t())
            .unwrap();
        writer.add_array("c", &arr1(&[1_i64, 2])).unwrap();
        writer.add_array("d", &arr1(&[true, false])).unwrap();
        writer.add_array("label", &arr1(&[1_u16])).unwrap();
    });
    let mut file = BatchFile::open("b.npz", &path, &inputs, LIMITS).unwrap();
    assert_eq!(
        (file.count(), file.ignored_keys()),
        (1, ["label".to_owned()].as_slice())
    );
    let batch = file.read(0).unwrap();
    assert_eq!(batch["a"].as_f32().unwrap()[[1, 2]], 6.0);
    let b = batch["b"].as_f32().unwrap();
    assert_eq!(b.as_slice().unwrap(), [1.0, 2.0, 4.0, 5.0]);
    assert_eq!(batch["c"], Datum::I32(arr1(&[1, 2]).into_dyn()));
    assert_eq!(batch["d"], Datum::I32(arr1(&[1, 0]).into_dyn()));

    let path = npz(&folder, |writer| {
        writer
            .add_array("x", &Array3::<f32>::ones((4, 1, 2)))
            .unwrap();
    });
    let mut stack = BatchFile::open("b.npz", &path, &floats(&[Some(1), Some(2)]), LIMITS).unwrap();
    assert_eq!(stack.count(), 4);
    assert!(
        stack
            .batches()
            .all(|batch| batch.unwrap()["x"].shape() == [1, 2])
    );
}

#[test]
fn npz_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let not_finite = npz(&folder, |writer| {
        writer
            .add_array("x", &arr1(&[0.0_f32, f32::INFINITY]))
            .unwrap();
    });
    let text = open_error("b.npz", &not_finite, &floats(&[None]));
    assert!(text.contains("tensor 'x' has inf at index [1]"), "{text}");

    let whole = npz(&folder, |writer| {
        writer
            .add_array("x", &Array2::<f32>::zeros((30, 40)))
            .unwrap();
    });
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&whole, &bytes[..bytes.len() / 2]).unwrap();
    let text = open_error("b.npz", &whole, &floats(&[None, None]));
    assert!(
        text.starts_with("b.npz: no .npz file, or a truncated one"),
        "{text}"
    );
}
