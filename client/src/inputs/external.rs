//! What an ONNX model needs beside itself: inputs, and external data, which it may or may not have.
//!
//! A model comes from anywhere, and these files are read and uploaded, so a path that leaves the
//! model's folder (absolute or by `..`) is an error. A symbolic link in the folder is followed: no
//! model can make one, whoever owns the folder did, as the cache of Hugging Face does.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use bytes::Buf;
use prost::Message as _;

use super::{
    Holdings, InputError,
    file_window::FileWindow,
    foreign::{Wanted, refusal},
    onnx::{EXTERNAL, ModelProto, TensorProto},
};

/// A file that a model keeps tensors in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalFile {
    /// The relative path that the model names, plainly written: without "./".
    pub location: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// What a model needs to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelNeeds {
    /// Files with its tensors, each once, sorted by location.
    pub external: Vec<ExternalFile>,
    /// Names of what a batch must hold, in the graph's order.
    pub inputs: Vec<String>,
}

/// What the ONNX model `model` needs. What it holds is noted in `holdings`.
///
/// # Errors
/// [`InputError::Foreign`] for what is plainly another kind of file, [`InputError::NotOnnx`] for what
/// is no model or only a part of one, [`InputError::ExternalData`] naming the tensor and the path for
/// a file that is missing, too short or out of bounds.
pub fn model_needs(model: &Path, holdings: &mut Holdings) -> Result<ModelNeeds, InputError> {
    if let Some(refusal) = refusal(model, Wanted::Model) {
        return Err(refusal);
    }
    let read = |source| InputError::Read {
        path: model.to_owned(),
        source,
    };
    let mut file = FileWindow::open(model).map_err(read)?;
    let decoded = decode(&mut file);
    if let Some(failure) = file.failure() {
        return Err(read(failure));
    }
    let decoded = decoded.map_err(|reason| InputError::NotOnnx {
        path: model.to_owned(),
        reason,
    })?;
    let folder = match model.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut files = BTreeMap::new();
    let contents = decoded.contents();
    holdings.nodes(model, contents.nodes);
    holdings.tensors(model, contents.tensors.len() as u64);
    holdings.nesting(model, contents.nesting);
    for tensor in contents.tensors {
        holdings.name(model, &tensor.name);
        if tensor.data_location != EXTERNAL {
            continue;
        }
        let location = entry(tensor, "location").unwrap_or_default();
        let file = resolve(folder, location)
            .and_then(|file| check_range(tensor, &file.path).map(|()| file))
            .map_err(|reason| InputError::ExternalData {
                model: model.to_owned(),
                tensor: tensor.name.clone(),
                location: location.to_owned(),
                reason,
            })?;
        files.insert(file.location.clone(), file);
    }
    Ok(ModelNeeds {
        external: files.into_values().collect(),
        inputs: decoded.inputs(),
    })
}

fn decode(file: impl Buf) -> Result<ModelProto, String> {
    let model = ModelProto::decode(file)
        .map_err(|error| format!("it is cut off or of another format ({error})"))?;
    match (model.ir_version, &model.graph) {
        (version, Some(_)) if version > 0 => Ok(model),
        (version, _) if version > 0 => Err("it has no graph".to_owned()),
        _ => Err("it has no ONNX IR version".to_owned()),
    }
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let found = tensor.external_data.iter().find(|entry| entry.key == key);
    found.map(|entry| entry.value.as_str())
}

/// The file at `location` under `folder`, or why it cannot be used.
fn resolve(folder: &Path, location: &str) -> Result<ExternalFile, String> {
    let mut parts = Vec::new();
    for component in Path::new(location).components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::CurDir => {}
            Component::ParentDir => return Err("leaves the folder by \"..\"".to_owned()),
            Component::RootDir | Component::Prefix(_) => {
                return Err("is an absolute path".to_owned());
            }
        }
    }
    if parts.is_empty() {
        return Err("is no path of a file".to_owned());
    }
    // The API carries this path, so it must be in the one form that means the same everywhere.
    let location = parts.join("/");
    if location.contains(['\\', ':']) {
        return Err(
            "is not written plainly, as \"weights.bin\" or \"data/weights.bin\"".to_owned(),
        );
    }
    let path = folder.join(&location);
    let metadata = fs::metadata(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read ({error})"),
    })?;
    match metadata.is_file() {
        true => Ok(ExternalFile { location, path }),
        false => Err("is not a file".to_owned()),
    }
}

/// The file must be long enough for the tensor's share of it.
fn check_range(tensor: &TensorProto, path: &Path) -> Result<(), String> {
    let number = |key: &str| match entry(tensor, key) {
        None => Ok(0),
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| format!("it uses with {key} {text:?}, which is no number of bytes")),
    };
    let end = number("offset")?
        .checked_add(number("length")?)
        .ok_or_else(|| "it uses with an offset and length that overflow".to_owned())?;
    let size = fs::metadata(path)
        .map_err(|error| format!("cannot be read ({error})"))?
        .len();
    match end > size {
        true => Err(format!(
            "has {size} bytes where the tensor ends at byte {end}: it was cut off"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::onnx::{AttributeProto, GraphProto, NodeProto, StringStringEntryProto};

    fn tensor(name: &str, entries: &[(&str, &str)]) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            data_location: EXTERNAL,
            external_data: entries
                .iter()
                .map(|(key, value)| StringStringEntryProto {
                    key: (*key).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect(),
        }
    }

    /// A folder with `weights.bin` (8 bytes) and a model whose subgraph holds `inner`.
    fn folder(inner: TensorProto) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("weights.bin"), [0; 8]).unwrap();
        let subgraph = GraphProto {
            initializer: vec![inner],
            ..GraphProto::default()
        };
        let attribute = AttributeProto {
            g: Some(Box::new(subgraph)),
            ..AttributeProto::default()
        };
        let graph = GraphProto {
            node: vec![NodeProto {
                attribute: vec![attribute],
            }],
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: 8,
            graph: Some(graph),
            functions: Vec::new(),
        };
        let path = folder.path().join("model.onnx");
        fs::write(&path, model.encode_to_vec()).unwrap();
        (folder, path)
    }

    fn reason(inner: TensorProto) -> String {
        let (_folder, model) = folder(inner);
        let needs = model_needs(&model, &mut Holdings::default());
        needs.unwrap_err().to_string()
    }

    #[test]
    fn files_named_in_subgraphs_are_found() {
        let (_folder, model) = folder(tensor("w", &[("location", "weights.bin"), ("length", "8")]));
        let files = model_needs(&model, &mut Holdings::default())
            .unwrap()
            .external;
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].location, "weights.bin");
    }

    #[test]
    fn paths_out_of_the_folder_name_the_tensor_and_the_path() {
        for (location, why) in [
            ("../weights.bin", "\"..\""),
            ("a/../../weights.bin", "\"..\""),
            ("/etc/hosts", "absolute"),
            ("nowhere.bin", "does not exist"),
            ("./../weights.bin", "\"..\""),
            ("c:weights.bin", "not written plainly"),
            (".", "no path"),
            ("", "no path"),
        ] {
            let text = reason(tensor("w1", &[("location", location)]));
            assert!(
                text.contains("\"w1\"") && text.contains(why),
                "{location}: {text}"
            );
            assert!(text.contains(location), "{location}: {text}");
        }
    }

    #[test]
    fn what_changes_nothing_in_a_path_is_left_out() {
        for location in ["./weights.bin", ".//weights.bin", "././weights.bin"] {
            let (_folder, model) = folder(tensor("w", &[("location", location)]));
            let files = model_needs(&model, &mut Holdings::default())
                .unwrap()
                .external;
            assert_eq!(files[0].location, "weights.bin", "{location}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_beside_a_model_are_followed_as_a_cache_has_them() {
        use std::os::unix::fs::symlink;

        let (blobs, model) = folder(tensor("w", &[("location", "model.onnx_data")]));
        let snapshot = tempfile::tempdir().unwrap();
        let (linked, data) = (
            snapshot.path().join("model.onnx"),
            snapshot.path().join("model.onnx_data"),
        );
        symlink(&model, &linked).unwrap();
        symlink(blobs.path().join("weights.bin"), &data).unwrap();
        let files = model_needs(&linked, &mut Holdings::default())
            .unwrap()
            .external;
        assert_eq!(
            (files[0].location.as_str(), &files[0].path),
            ("model.onnx_data", &data)
        );

        for (target, why) in [("nowhere", "does not exist"), ("/", "is not a file")] {
            fs::remove_file(&data).unwrap();
            symlink(target, &data).unwrap();
            let error = model_needs(&linked, &mut Holdings::default()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn external_data_that_was_cut_off_is_told() {
        let entries = [
            ("location", "weights.bin"),
            ("offset", "4"),
            ("length", "5"),
        ];
        let text = reason(tensor("w", &entries));
        assert!(text.contains("ends at byte 9"), "{text}");
        assert!(
            reason(tensor("w", &[("location", "weights.bin"), ("offset", "x")])).contains("offset")
        );
    }

    #[test]
    fn what_is_no_whole_model_is_told() {
        let (_folder, model) = folder(tensor("w", &[("location", "weights.bin")]));
        let whole = fs::read(&model).unwrap();
        for bytes in [&whole[..whole.len() - 3], b"", b"\x01\x02\x03\x04"] {
            fs::write(&model, bytes).unwrap();
            let error = model_needs(&model, &mut Holdings::default()).unwrap_err();
            assert!(
                matches!(error, InputError::NotOnnx { .. }),
                "{bytes:?}: {error}"
            );
        }
    }
}
