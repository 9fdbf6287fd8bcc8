//! What people give in the place of a model or a checkpoint, and what to do instead. Told by the
//! first bytes, so that nothing large is read or uploaded to find it out.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::InputError;

/// What a file was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An ONNX model.
    Model,
    /// A safetensors checkpoint.
    Weights,
    /// A safetensors file of one batch.
    Batch,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    PyTorch,
    Pickle,
    Safetensors,
    Onnx,
    ExternalData,
    Numpy,
    Archive,
    Image,
    TfLite,
    Keras,
    Compiled,
    LfsPointer,
    WebPage,
    Text,
}

const EXPORT: &str = "export the model:  torch.onnx.export(model.eval(), (example_input,), \
                      \"model.onnx\")";
const SAVE: &str = "safetensors.torch.save_file(model.state_dict(), \"ckpt.safetensors\")";

/// The refusal of a file that is plainly another kind of file than the one wanted.
pub(super) fn refusal(path: &Path, wanted: Wanted) -> Option<InputError> {
    let kind = recognise(path, &head(path)?)?;
    let fits = match wanted {
        Wanted::Model => kind == Kind::Onnx,
        Wanted::Weights | Wanted::Batch => kind == Kind::Safetensors,
    };
    (!fits).then(|| InputError::Foreign {
        path: path.to_owned(),
        is: kind.name(),
        wanted: wanted.name(),
        remedy: kind.remedy(path, wanted),
    })
}

/// What to say of a folder where a model or checkpoint was wanted.
pub(super) fn of_folder(folder: &Path, wanted: Wanted) -> String {
    let has = |name: &str| folder.join(name).exists();
    let extension = match wanted {
        Wanted::Model => "onnx",
        _ => "safetensors",
    };
    let inside = super::arrays::entries(folder).unwrap_or_default();
    let found = inside
        .iter()
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .min();
    match found {
        Some(file) => format!("a file; it is a folder, which has {}", file.display()),
        None if wanted == Wanted::Model && has("saved_model.pb") => format!(
            "a file; it is a folder with a TensorFlow model: python -m tf2onnx.convert \
             --saved-model {} --output model.onnx",
            folder.display()
        ),
        None if wanted == Wanted::Model && has("config.json") => format!(
            "a file; it is a folder with a Hugging Face model: optimum-cli export onnx --model {} \
             exported",
            folder.display()
        ),
        None => format!("a file; it is a folder, and none of its files is a .{extension}"),
    }
}

/// The first bytes; none of a file that cannot be read, which whoever reads it says.
fn head(path: &Path) -> Option<Vec<u8>> {
    const HEAD: u64 = 1024;
    let mut head = Vec::new();
    let file = File::open(path).ok()?;
    file.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

fn recognise(path: &Path, head: &[u8]) -> Option<Kind> {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let is = |extensions: &[&str]| extensions.iter().any(|known| extension == *known);
    let holds = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
    Some(match head {
        // The length of a header, which may begin as anything, and its beginning.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Kind::Safetensors,
        [b'P', b'K', 3, 4, ..] if holds(b"data.pkl") => Kind::PyTorch,
        [b'P', b'K', 3, 4, ..] if holds(b".npy") => Kind::Numpy,
        [b'P', b'K', 3, 4, ..] => Kind::Archive,
        [0x1f, 0x8b, ..] => Kind::Archive,
        [0x80, 2..=5, ..] if is(&["pt", "pth", "bin", "ckpt"]) => Kind::PyTorch,
        [0x80, 2..=5, ..] => Kind::Pickle,
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Kind::Numpy,
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] => Kind::Image,
        [0x89, b'H', b'D', b'F', ..] => Kind::Keras,
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Kind::TfLite,
        // The version of the format, as its first field.
        [0x08, 1..=0x7f, ..] => Kind::Onnx,
        _ if is(&["hbm", "hbir", "bc"]) => Kind::Compiled,
        _ if head.starts_with(b"version https://git-lfs") => Kind::LfsPointer,
        _ if is_text(head) && begins_as_page(head) => Kind::WebPage,
        _ if is_text(head) => Kind::Text,
        _ if is_external_data(path) => Kind::ExternalData,
        _ => return None,
    })
}

/// Whether the bytes are text, but for a character that they may end within.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace())
}

fn begins_as_page(head: &[u8]) -> bool {
    let start = head.trim_ascii_start().get(..5).unwrap_or_default();
    start.eq_ignore_ascii_case(b"<html") || start.eq_ignore_ascii_case(b"<!doc")
}

fn is_external_data(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".onnx.data", ".onnx_data", ".data"]
        .iter()
        .any(|ending| name.ends_with(ending))
        || model_of(path).is_some_and(|model| model != path && model.is_file())
}

/// The model that external data is called after: `m.onnx.data`, `m.onnx_data`, `m.data`.
fn model_of(data: &Path) -> Option<PathBuf> {
    let name = data.file_name()?.to_str()?;
    let (model, _) = name.split_once(".onnx").or_else(|| name.split_once('.'))?;
    Some(data.with_file_name(format!("{model}.onnx")))
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "an ONNX model",
            Self::Weights => "a safetensors checkpoint",
            Self::Batch => "a safetensors file",
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::PyTorch => "a PyTorch file",
            Self::Pickle => "a Python pickle",
            Self::Safetensors => "a safetensors file",
            Self::Onnx => "an ONNX model",
            Self::ExternalData => "the external data of an ONNX model",
            Self::Numpy => "a file of NumPy arrays",
            Self::Archive => "a compressed archive",
            Self::Image => "an image",
            Self::TfLite => "a TensorFlow Lite model",
            Self::Keras => "a Keras or other HDF5 file",
            Self::Compiled => "a compiled model of the Horizon toolchain",
            Self::LfsPointer => "a Git LFS pointer: the file itself was not downloaded",
            Self::WebPage => "a web page",
            Self::Text => "a text file",
        }
    }

    /// Two lines: what to do, and what else.
    fn remedy(self, path: &Path, wanted: Wanted) -> String {
        let file = path.display();
        let layer_mode = format!("or without a graph:  {SAVE}, then --weights ckpt.safetensors");
        let convert = |with: &str| format!("convert it:  python -m tf2onnx.convert {with}");
        let [first, second] = match (self, wanted) {
            (Self::PyTorch | Self::Pickle, Wanted::Model) => [EXPORT.to_owned(), layer_mode],
            (Self::PyTorch | Self::Pickle, _) => [
                format!(
                    "state = torch.load(\"{file}\", map_location=\"cpu\")  # of tensors by name"
                ),
                "safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, \
                 \"ckpt.safetensors\")"
                    .to_owned(),
            ],
            (Self::Safetensors, _) => [
                EXPORT.to_owned(),
                format!("or without a graph:  --weights {file} --activations DIR"),
            ],
            (Self::Onnx, _) => [
                format!("give it as the model:  dual16 quantize {file} --calib DIR"),
                format!("or make a checkpoint:  {SAVE}"),
            ],
            (Self::ExternalData, _) => {
                let model = model_of(path).filter(|model| model.is_file());
                let model = model.map_or("MODEL.onnx".into(), |model| model.display().to_string());
                [
                    format!("give the model itself:  {model}"),
                    "this file need only lie where the model names it".to_owned(),
                ]
            }
            (Self::Numpy | Self::Image, Wanted::Model) => [
                "the model comes first:  dual16 quantize MODEL.onnx --calib DIR".to_owned(),
                "batches are files in the folder that --calib names".to_owned(),
            ],
            (Self::Numpy, _) => [
                format!("arrays = dict(numpy.load(\"{file}\"))  # by their names"),
                "safetensors.numpy.save_file(arrays, \"ckpt.safetensors\")".to_owned(),
            ],
            (Self::TfLite, Wanted::Model) => [
                convert(&format!("--tflite {file} --output model.onnx")),
                "it must be the float model: one that is already quantized gains nothing"
                    .to_owned(),
            ],
            (Self::Keras, Wanted::Model) => [
                convert(&format!("--keras {file} --output model.onnx")),
                format!("or from PyTorch:  {EXPORT}"),
            ],
            (Self::Compiled, _) => [
                "it holds integers for the chip and no float weights any more".to_owned(),
                "give the float model that it was compiled from, as ONNX".to_owned(),
            ],
            (Self::LfsPointer, _) => [
                "in its repository:  git lfs pull".to_owned(),
                "or download the file itself rather than the page's \"raw\" text".to_owned(),
            ],
            (Self::WebPage, _) => [
                "a download that needs a login, or the page of a file instead of the file"
                    .to_owned(),
                "download the file itself; an ONNX model or checkpoint is binary".to_owned(),
            ],
            (Self::Archive, _) => [
                format!("unpack it, and give {} from it", wanted.name()),
                EXPORT.to_owned(),
            ],
            (_, Wanted::Model) => [EXPORT.to_owned(), layer_mode],
            (_, Wanted::Weights | Wanted::Batch) => [
                format!("make a checkpoint:  {SAVE}"),
                "or a batch:  safetensors.numpy.save_file({\"NAME\": array}, \"000.safetensors\")"
                    .to_owned(),
            ],
        };
        format!("{first}\n  {second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, bytes: &[u8], wanted: Wanted) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Some(refusal(&path, wanted)?.to_string())
    }

    #[test]
    fn each_kind_is_told_in_three_lines_with_what_to_do() {
        let zip = b"PK\x03\x04\0\0\0\0\0\0archive/data.pkl";
        let cases: [(&str, &[u8], &str, &str); 12] = [
            ("m.pt", zip, "a PyTorch file", "torch.onnx.export"),
            ("m.pth", b"\x80\x02}q\0", "a PyTorch file", "save_file"),
            (
                "m.pkl",
                b"\x80\x04\x95",
                "a Python pickle",
                "torch.onnx.export",
            ),
            ("x.npz", b"PK\x03\x04\0\0x.npy", "NumPy", "--calib"),
            ("x.jpg", b"\xff\xd8\xff\xe0", "an image", "--calib"),
            ("m.tflite", b"\x1c\0\0\0TFL3", "TensorFlow Lite", "tf2onnx"),
            ("m.h5", b"\x89HDF\r\n", "Keras", "tf2onnx"),
            ("m.hbm", b"\x01\x02\x03\x04", "Horizon", "compiled from"),
            (
                "m.onnx",
                b"version https://git-lfs.github.com/spec/v1\noid ",
                "Git LFS",
                "git lfs pull",
            ),
            ("m.onnx", b"<!DOCTYPE html><html>", "a web page", "download"),
            (
                "m.onnx",
                "dear diary, ü".as_bytes(),
                "a text file",
                "torch.onnx.export",
            ),
            (
                "m.onnx.data",
                b"\x3c\x9f\0\x80",
                "external data",
                "MODEL.onnx",
            ),
        ];
        for (name, bytes, is, remedy) in cases {
            let text = told(name, bytes, Wanted::Model).unwrap();
            assert!(text.contains(name) && text.contains(is), "{name}: {text}");
            assert!(text.contains(remedy), "{name}: {text}");
            assert_eq!(text.lines().count(), 3, "{name}: {text}");
        }
        let text = told("m.onnx", b"\x08\x08\x12\x07", Wanted::Weights).unwrap();
        assert!(text.contains("give it as the model"), "{text}");
        let text = told("m.pt", zip, Wanted::Weights).unwrap();
        assert!(
            text.contains("save_file") && text.contains("torch.load"),
            "{text}"
        );
    }

    #[test]
    fn what_was_wanted_and_what_nobody_knows_pass() {
        assert_eq!(
            told("m.onnx", b"\x08\x08\x12\x07pytorch", Wanted::Model),
            None
        );
        assert_eq!(told("m.onnx", b"", Wanted::Model), None);
        assert_eq!(told("m.onnx", b"\x3c\x9f\0\x80", Wanted::Model), None);
        for length in [b"\x80\x02", b"\x1f\x8b", b"\x08\x01"] {
            let weights = [&length[..], b"\0\0\0\0\0\0{\"a\":"].concat();
            assert_eq!(told("w.safetensors", &weights, Wanted::Weights), None);
        }
        let weights = b"\x40\0\0\0\0\0\0\0{\"a\":";
        assert_eq!(told("w.safetensors", weights, Wanted::Weights), None);
        assert!(told("w.safetensors", weights, Wanted::Model).is_some());
        assert_eq!(
            refusal(Path::new("nowhere"), Wanted::Model).map(|_| ()),
            None
        );
    }

    #[test]
    fn external_data_names_the_model_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        std::fs::write(&model, b"\x08\x08").unwrap();
        for name in ["m.onnx.data", "m.onnx_data", "m.data", "m.onnx.weights"] {
            let path = folder.path().join(name);
            std::fs::write(&path, b"\x3c\x9f\0\x80").unwrap();
            let text = refusal(&path, Wanted::Model).unwrap().to_string();
            assert!(text.contains(&model.display().to_string()), "{text}");
        }
    }

    #[test]
    fn a_folder_says_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let of = || of_folder(folder.path(), Wanted::Model);
        assert!(of().contains("none of its files is a .onnx"), "{}", of());
        for (file, says) in [
            ("config.json", "optimum-cli"),
            ("saved_model.pb", "tf2onnx"),
            ("b.onnx", "b.onnx"),
            ("a.onnx", "a.onnx"),
        ] {
            std::fs::write(folder.path().join(file), b"").unwrap();
            assert!(of().contains(says), "{}", of());
        }
    }
}
