//! No input takes the process down: random bytes, truncated files, files with bytes changed.

use std::{fs::File, sync::LazyLock};

use crate::shared::{LIMITS, data, made::Made};
use dual16_quant::{
    batch::BatchFile,
    float::FloatModel,
    layers,
    model::{ElementKind, InputShape, InputSpec, Model},
};
use ndarray_npy::NpzWriter;
use proptest::{collection::vec, prelude::*};

static ONNX: LazyLock<Vec<u8>> = LazyLock::new(|| {
    Made::new(&[2, 2])
        .constant("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
        .scalar("b", 1.0)
        .node("MatMul", &["x", "w"], &["p"])
        .scope("fc", "linear")
        .node("Add", &["p", "b"], &["q"])
        .node("Softmax", &["q"], &["y"])
        .int("axis", -1)
        .encode()
});

static SAFETENSORS: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(data("smallmodel/float.safetensors")).unwrap());

static NPZ: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.npz");
    let mut writer = NpzWriter::new(File::create(&path).unwrap());
    writer
        .add_array("x", &ndarray::arr2(&[[1.0_f32, 2.0], [3.0, 4.0]]))
        .unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
});

fn inputs() -> Vec<InputSpec> {
    let shape = InputShape::Ranked(vec![None, None]);
    vec![InputSpec {
        name: "x".to_owned(),
        kind: ElementKind::F32,
        shape,
    }]
}

/// Whether it was read; only that it returns matters.
fn onnx(bytes: Vec<u8>) -> bool {
    let Ok(model) = Model::from_bytes("m.onnx", bytes.into(), &[], LIMITS) else {
        return false;
    };
    let Ok(float) = FloatModel::load(&model, 1) else {
        return false;
    };
    let probe = float.probe(&crate::shared::made::batch(&[2, 2]));
    probe.is_ok_and(|probe| dual16_quant::graph::lower(&model, &probe).is_ok())
}

fn batches(name: &str, bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let read = BatchFile::open(name, &path, &inputs(), LIMITS)
        .map(|mut file| file.batches().all(|b| b.is_ok()));
    let layers = layers::to_onnx(name, &path, None, LIMITS);
    read.is_ok_and(|all| all) || layers.is_ok()
}

fn changed(whole: &[u8], changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (at, value) in changes {
        let length = bytes.len();
        bytes[at.index(length)] = *value;
    }
    bytes
}

#[test]
fn the_files_that_are_damaged_below_are_good_to_begin_with() {
    assert!(onnx(ONNX.clone()));
    assert!(batches("b.safetensors", &SAFETENSORS));
    assert!(batches("b.npz", &NPZ));
}

#[test]
fn an_onnx_cut_anywhere_is_refused() {
    // Every place, the borders between fields among them: a cut there leaves valid protobuf.
    for length in 0..ONNX.len() {
        assert!(!onnx(ONNX[..length].to_vec()), "cut at {length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(!batches("b.safetensors", &bytes));
        prop_assert!(!batches("b.npz", &bytes));
        prop_assert!(!onnx(bytes));
    }

    #[test]
    fn truncated(cut in any::<prop::sample::Index>()) {
        prop_assert!(!onnx(ONNX[..cut.index(ONNX.len())].to_vec()));
        prop_assert!(!batches("b.safetensors", &SAFETENSORS[..cut.index(SAFETENSORS.len())]));
        prop_assert!(!batches("b.npz", &NPZ[..cut.index(NPZ.len())]));
    }

    #[test]
    fn changed_bytes(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        onnx(changed(&ONNX, &changes));
        batches("b.npz", &changed(&NPZ, &changes));
    }

    #[test]
    fn changed_safetensors_header(changes in vec((0..700_usize, any::<u8>()), 1..4)) {
        let mut bytes = SAFETENSORS.clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        batches("b.safetensors", &bytes);
    }
}
