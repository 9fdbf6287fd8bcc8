//! External data of an ONNX model: which other files it needs, and whether it may have them.
//!
//! A model comes from anywhere, and these files are read and uploaded, so a path that leaves the
//! model's folder (absolute, `..`, or through a symbolic link) is an error.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use prost::Message as _;

use super::{
    Holdings, InputError,
    onnx::{EXTERNAL, ModelProto, TensorProto},
};

/// A file that a model keeps tensors in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalFile {
    /// The relative path exactly as the model names it.
    pub location: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The external files of the ONNX model `model`, each once, sorted by location. What the model holds
/// is noted in `holdings`.
///
/// # Errors
/// [`InputError::NotOnnx`] for what is no model or only a part of one, [`InputError::ExternalData`]
/// naming the tensor and the path for a file that is missing, too short or out of bounds.
pub fn external_files(
    model: &Path,
    holdings: &mut Holdings,
) -> Result<Vec<ExternalFile>, InputError> {
    let read = |source| InputError::Read {
        path: model.to_owned(),
        source,
    };
    let bytes = fs::read(model).map_err(read)?;
    let decoded = decode(&bytes).map_err(|reason| InputError::NotOnnx {
        path: model.to_owned(),
        reason,
    })?;
    let folder = match model.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(read)?;
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
        let path = resolve(&folder, location)
            .and_then(|path| check_range(tensor, &path).map(|()| path))
            .map_err(|reason| InputError::ExternalData {
                model: model.to_owned(),
                tensor: tensor.name.clone(),
                location: location.to_owned(),
                reason,
            })?;
        files.insert(location.to_owned(), path);
    }
    Ok(files
        .into_iter()
        .map(|(location, path)| ExternalFile { location, path })
        .collect())
}

fn decode(bytes: &[u8]) -> Result<ModelProto, String> {
    let model = ModelProto::decode(bytes)
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

/// The file at `location` under `folder` (canonical), or why it cannot be used.
fn resolve(folder: &Path, location: &str) -> Result<PathBuf, String> {
    if location.is_empty() {
        return Err("is no path".to_owned());
    }
    // The API carries this path, so it must be in the one form that means the same everywhere.
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']);
    for component in Path::new(location).components() {
        match component {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return Err("leaves the folder by \"..\"".to_owned()),
            Component::RootDir | Component::Prefix(_) => {
                return Err("is an absolute path".to_owned());
            }
        }
    }
    if !location.split('/').all(plain) {
        return Err(
            "is not written plainly, as \"weights.bin\" or \"data/weights.bin\"".to_owned(),
        );
    }
    let path = folder.join(location);
    let real = path.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("does not exist (looked for {})", path.display()),
        _ => format!("cannot be read ({error})"),
    })?;
    if !real.starts_with(folder) {
        return Err("leaves the folder by a symbolic link".to_owned());
    }
    if !real.is_file() {
        return Err("is not a file".to_owned());
    }
    Ok(real)
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
        external_files(&model, &mut Holdings::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn files_named_in_subgraphs_are_found() {
        let (_folder, model) = folder(tensor("w", &[("location", "weights.bin"), ("length", "8")]));
        let files = external_files(&model, &mut Holdings::default()).unwrap();
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
            (".", "not written plainly"),
            ("./weights.bin", "not written plainly"),
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

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_must_stay_in_the_folder() {
        let (folder, model) = folder(tensor("w", &[("location", "link.bin")]));
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link.bin")).unwrap();
        let text = external_files(&model, &mut Holdings::default())
            .unwrap_err()
            .to_string();
        assert!(text.contains("symbolic link"), "{text}");

        fs::remove_file(folder.path().join("link.bin")).unwrap();
        std::os::unix::fs::symlink("weights.bin", folder.path().join("link.bin")).unwrap();
        assert_eq!(
            external_files(&model, &mut Holdings::default()).unwrap()[0].location,
            "link.bin"
        );
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
        for bytes in [
            &whole[..whole.len() - 3],
            b"",
            b"not a model",
            b"\x89PNG\r\n",
        ] {
            fs::write(&model, bytes).unwrap();
            let error = external_files(&model, &mut Holdings::default()).unwrap_err();
            assert!(
                matches!(error, InputError::NotOnnx { .. }),
                "{bytes:?}: {error}"
            );
        }
    }
}
