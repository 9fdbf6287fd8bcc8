//! Is a safetensors file whole? Reads the header alone, so that gigabytes need not be uploaded to
//! learn that the last ones are missing. Format: <https://github.com/huggingface/safetensors>.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde::Deserialize;

use super::{
    Holdings, InputError,
    foreign::{Wanted, refusal},
};

/// The format's own limit for the header.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: u64 = 8;

/// One entry of the header; `__metadata__` has no offsets.
#[derive(Deserialize)]
struct Entry {
    data_offsets: Option<[u64; 2]>,
}

/// The key that is no tensor.
const METADATA: &str = "__metadata__";

/// Checks that the file has all the bytes that its header promises, and notes what it holds. Gives
/// the bytes of its tensors.
pub(super) fn check_length(
    path: &Path,
    wanted: Wanted,
    holdings: &mut Holdings,
) -> Result<u64, InputError> {
    if let Some(refusal) = refusal(path, wanted) {
        return Err(refusal);
    }
    let read = |source| InputError::Read {
        path: path.to_owned(),
        source,
    };
    let broken = |reason: String| InputError::NotSafetensors {
        path: path.to_owned(),
        reason,
    };
    let mut file = File::open(path).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                broken(format!("it has {size} bytes, too few for a header"))
            }
            _ => read(error),
        })?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(broken(
            "it does not begin with the length of a header".to_owned(),
        ));
    }
    let data_begin = LENGTH_BYTES + header_bytes;
    if data_begin > size {
        return Err(broken(format!(
            "the header needs {data_begin} bytes, the file has {size}"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(read)?;
    let entries: BTreeMap<String, Entry> = serde_json::from_slice(&header)
        .map_err(|error| broken(format!("the header is not the format's JSON ({error})")))?;
    let names = entries.keys().filter(|name| *name != METADATA);
    holdings.tensors(path, names.clone().count() as u64);
    names.for_each(|name| holdings.name(path, name));
    let last = entries
        .iter()
        .filter_map(|(name, entry)| Some((entry.data_offsets?[1], name)))
        .max();
    match last {
        Some((end, name)) if end > size - data_begin => Err(broken(format!(
            "tensor {name:?} ends at byte {}, the file has {size}: it was cut off",
            data_begin.saturating_add(end)
        ))),
        _ => Ok(last.map_or(0, |(end, _)| end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<u64, InputError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, bytes).unwrap();
        check_length(&path, Wanted::Batch, &mut Holdings::default())
    }

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    const HEADER: &str =
        r#"{"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_whole_file_passes_and_a_cut_one_names_the_tensor() {
        assert_eq!(check(&file(HEADER, 8)).unwrap(), 8);
        let error = check(&file(HEADER, 7)).unwrap_err().to_string();
        assert!(
            error.contains("\"w\"") && error.contains("cut off"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_safetensors_is_told() {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\xff\xfe\xfd\xfc and some more",
            &file("not json", 0),
        ] {
            assert!(
                matches!(check(bytes), Err(InputError::NotSafetensors { .. })),
                "{bytes:?}"
            );
        }
        let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
        assert!(check(&huge).is_err());
    }
}
