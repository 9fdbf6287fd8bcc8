//! A model's file read without its weights: the raw data of large initializers stays in the file and is
//! read from there when it is decoded, one tensor at a time, as external data is. Otherwise a model would
//! be in memory twice while it is loaded.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use prost::{Message as _, encoding::encode_varint};

use super::{StringStringEntryProto, TensorProto};

/// What a lifted tensor gives as the location of its data: the model's own file. No file that a model may
/// name is called so.
pub(crate) const THIS_FILE: &str = "\0";

/// Raw data of fewer bytes is read with the model: rewrites look into small constants over and over.
const LARGE: u64 = 64 << 10;

/// Numbers of fields: the graph of a model, the initializers of a graph, and of a tensor its raw data and
/// what says that its data is elsewhere.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;
const EXTERNAL_DATA: u64 = 13;
const DATA_LOCATION: u64 = 14;

/// The file's message with large initializers as external data in [`THIS_FILE`]; the file as it is where
/// its fields make no sense, which the decoder is to say.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > LARGE {
        let mut lifting = Lifting {
            file: BufReader::new(file),
            at: 0,
        };
        if let Some(lifted) = lifting.message(0..length, Lifting::model)? {
            return Ok(lifted);
        }
    }
    std::fs::read(path)
}

/// A field: its number, where it begins, and where its content is if that is bytes.
struct Field {
    number: u64,
    begin: u64,
    content: Option<Range<u64>>,
    end: u64,
}

struct Lifting {
    file: BufReader<File>,
    at: u64,
}

impl Lifting {
    /// Every field of the message in `range`, each as `part` writes it. None where they make no sense.
    fn message(
        &mut self,
        range: Range<u64>,
        part: fn(&mut Self, &Field, &mut Vec<u8>) -> io::Result<Option<()>>,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let Some(field) = self.field(at..range.end)? else {
                return Ok(None);
            };
            at = field.end;
            if part(self, &field, &mut out)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(out))
    }

    fn model(&mut self, field: &Field, out: &mut Vec<u8>) -> io::Result<Option<()>> {
        match &field.content {
            Some(content) if field.number == GRAPH => {
                let graph = self.message(content.clone(), Self::graph)?;
                Ok(graph.map(|graph| put(GRAPH, &graph, out)))
            }
            _ => self.copy(field.begin..field.end, out).map(Some),
        }
    }

    fn graph(&mut self, field: &Field, out: &mut Vec<u8>) -> io::Result<Option<()>> {
        match &field.content {
            Some(content) if field.number == INITIALIZER => {
                let tensor = self.tensor(content.clone())?;
                Ok(tensor.map(|tensor| put(INITIALIZER, &tensor, out)))
            }
            _ => self.copy(field.begin..field.end, out).map(Some),
        }
    }

    /// A tensor without its raw data, where that is large and all it has.
    fn tensor(&mut self, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let (mut out, mut at) = (Vec::new(), range.start);
        let mut raw: Option<Range<u64>> = None;
        let mut plain = true;
        while at < range.end {
            let Some(field) = self.field(at..range.end)? else {
                return Ok(None);
            };
            at = field.end;
            match (field.number, field.content) {
                (RAW_DATA, Some(content))
                    if raw.is_none() && content.end - content.start >= LARGE =>
                {
                    raw = Some(content);
                    continue;
                }
                (RAW_DATA | EXTERNAL_DATA | DATA_LOCATION, _) => plain = false,
                _ => {}
            }
            if plain {
                self.copy(field.begin..field.end, &mut out)?;
            }
        }
        match raw {
            Some(raw) if plain => {
                out.extend(elsewhere(&raw).encode_to_vec());
                Ok(Some(out))
            }
            _ => {
                out.clear();
                self.copy(range, &mut out)?;
                Ok(Some(out))
            }
        }
    }

    /// The field that begins where the range does. None where it does not end in it, and for groups, which
    /// ONNX does not have.
    fn field(&mut self, range: Range<u64>) -> io::Result<Option<Field>> {
        self.go_to(range.start)?;
        let Some(key) = self.varint(range.end)? else {
            return Ok(None);
        };
        let mut content = None;
        let end = match key & 7 {
            0 => match self.varint(range.end)? {
                Some(_) => Some(self.at),
                None => None,
            },
            1 => self.at.checked_add(8),
            2 => match self.varint(range.end)? {
                Some(length) => {
                    let end = self.at.checked_add(length);
                    content = end.map(|end| self.at..end);
                    end
                }
                None => None,
            },
            5 => self.at.checked_add(4),
            _ => None,
        };
        Ok(end.filter(|&end| end <= range.end).map(|end| Field {
            number: key >> 3,
            begin: range.start,
            content,
            end,
        }))
    }

    fn varint(&mut self, end: u64) -> io::Result<Option<u64>> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                return Ok(None);
            }
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn copy(&mut self, range: Range<u64>, out: &mut Vec<u8>) -> io::Result<()> {
        self.go_to(range.start)?;
        let length = range.end - range.start;
        let copied = (&mut self.file).take(length).read_to_end(out)?;
        self.at += copied as u64;
        match copied as u64 == length {
            true => Ok(()),
            // It became shorter since its length was asked.
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn go_to(&mut self, at: u64) -> io::Result<()> {
        // Within the buffer where it can, which `seek` never is.
        match i64::try_from(i128::from(at) - i128::from(self.at)) {
            Ok(step) => self.file.seek_relative(step)?,
            Err(_) => {
                self.file.seek(SeekFrom::Start(at))?;
            }
        }
        self.at = at;
        Ok(())
    }
}

/// The fields that say where the raw data is.
fn elsewhere(raw: &Range<u64>) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: key.to_owned(),
        value,
    };
    TensorProto {
        external_data: vec![
            entry("location", THIS_FILE.to_owned()),
            entry("offset", raw.start.to_string()),
            entry("length", (raw.end - raw.start).to_string()),
        ],
        data_location: 1,
        ..TensorProto::default()
    }
}

/// A field of bytes.
fn put(number: u64, content: &[u8], out: &mut Vec<u8>) {
    encode_varint(number << 3 | 2, out);
    encode_varint(content.len() as u64, out);
    out.extend(content);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::onnx::{GraphProto, ModelProto, OperatorSetIdProto};

    fn tensor(name: &str, bytes: usize) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            data_type: 1,
            dims: vec![bytes as i64 / 4],
            raw_data: Some(
                (0..bytes)
                    .map(|i| (i % 251) as u8)
                    .collect::<Vec<_>>()
                    .into(),
            ),
            ..TensorProto::default()
        }
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn model(tensors: Vec<TensorProto>) -> Vec<u8> {
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            graph: Some(GraphProto {
                initializer: tensors,
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn large_raw_data_stays_in_the_file_and_everything_else_is_the_same() {
        let mut elsewhere = tensor("elsewhere", 80 << 10);
        elsewhere.data_location = 1;
        let wanted = [
            tensor("small", 400),
            tensor("large", 80 << 10),
            elsewhere,
            tensor("last", 64 << 10),
        ];
        let bytes = model(wanted.to_vec());
        let file = file(&bytes);
        let read = ModelProto::decode(read(file.path()).unwrap().as_slice()).unwrap();
        assert_eq!(read.opset_import[0].version, 17);
        let got = read.graph.unwrap().initializer;
        assert_eq!(got.len(), 4);
        for (wanted, got) in wanted.iter().zip(&got) {
            assert_eq!((&wanted.name, &wanted.dims), (&got.name, &got.dims));
            let lifted = ["large", "last"].contains(&wanted.name.as_str());
            assert_eq!(got.raw_data.is_none(), lifted, "{}", wanted.name);
            let entry = |key: &str| {
                let found = got.external_data.iter().find(|entry| entry.key == key)?;
                found.value.parse::<usize>().ok()
            };
            if lifted {
                let (offset, length) = (entry("offset").unwrap(), entry("length").unwrap());
                let raw = wanted.raw_data.as_ref().unwrap();
                assert_eq!(&bytes[offset..offset + length], raw.as_ref());
            } else {
                assert_eq!(wanted, got);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_read_as_it_is() {
        let whole = model(vec![tensor("large", 80 << 10)]);
        for bytes in [
            &whole[..whole.len() - 7],
            &vec![0xff; 80 << 10],
            &vec![0x0b; 80 << 10],
        ] {
            assert_eq!(read(file(bytes).path()).unwrap(), bytes);
        }
    }
}
