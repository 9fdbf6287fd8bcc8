//! NumPy's array format: a header that is a Python dictionary, then the elements. Format:
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! Written here because a header comes from strangers: only the three keys that NumPy writes are
//! read, without recursion, and nothing is allocated for what a header merely promises.

use std::io::Read;

use super::element::{Element, Encoded};
use crate::{model::ElementKind, tensor::Datum};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header read. NumPy's own reader refuses one above 10,000 unless it is told otherwise.
const MAX_HEADER: usize = 1 << 16;
/// NumPy's limit of dimensions.
const MAX_RANK: usize = 64;

/// What an array says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    element: Element,
    big_endian: bool,
    fortran: bool,
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// Reads a header, and not one byte more.
    pub(super) fn read(file: &mut impl Read) -> Result<Header, String> {
        let mut start = [0; 8];
        exact(file, &mut start)?;
        if !start.starts_with(MAGIC) {
            return Err("it is no .npy array".to_owned());
        }
        let length = match start[6] {
            1 => {
                let mut length = [0; 2];
                exact(file, &mut length)?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                exact(file, &mut length)?;
                usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX)
            }
            version => return Err(format!("version {version} of .npy is unknown")),
        };
        if length > MAX_HEADER {
            return Err(format!(
                "its header says it has {length} bytes; at most {MAX_HEADER} may be"
            ));
        }
        let mut header = vec![0; length];
        exact(file, &mut header)?;
        let text = std::str::from_utf8(&header).map_err(|_| not_understood())?;
        let header = parse(text)?;
        match header.bytes() {
            Some(_) => Ok(header),
            None => Err(format!("shape {:?} is impossible", header.shape)),
        }
    }

    /// Reads the elements, of which there must be exactly as many as the shape has.
    pub(super) fn elements(
        &self,
        file: &mut impl Read,
        kind: ElementKind,
    ) -> Result<Datum, String> {
        let damaged = |error: std::io::Error| format!("damaged: {error}");
        let shape = &self.shape;
        let wanted = self
            .bytes()
            .ok_or_else(|| format!("shape {shape:?} is impossible"))?;
        let bytes = at_most(file, wanted).map_err(damaged)?;
        if (bytes.len() as u64) < wanted {
            let got = bytes.len();
            return Err(format!(
                "truncated: shape {shape:?} needs {wanted} bytes, it has {got}"
            ));
        }
        // The end is also where an archive finds out whether its checksum holds.
        if file.read(&mut [0]).map_err(damaged)? != 0 {
            return Err(format!(
                "damaged: it has more than the {wanted} bytes of shape {shape:?}"
            ));
        }
        Encoded {
            element: self.element,
            bytes: &bytes,
            big_endian: self.big_endian,
            fortran: self.fortran,
            shape,
            part: None,
        }
        .decode(kind)
    }

    /// Bytes of the elements; none where there cannot be so many.
    pub(super) fn bytes(&self) -> Option<u64> {
        let mut dims = self.shape.iter();
        let count = dims.try_fold(1, |n: usize, &d| n.checked_mul(d));
        let bytes = count?.checked_mul(self.element.bytes())?;
        // What does not fit an allocation fits no array.
        isize::try_from(bytes).ok().map(|_| bytes as u64)
    }

    /// What [`Self::elements`] holds while it reads, the result included.
    pub(super) fn reading(&self, kind: ElementKind) -> u64 {
        let encoded = self.bytes().unwrap_or(u64::MAX);
        let decoded = self.decoded(kind);
        // Again in its order in memory, where that is another.
        let turned = if self.fortran { decoded } else { 0 };
        let converting = encoded.saturating_add(decoded).saturating_add(turned);
        // Room that grows is there twice for a moment.
        converting.max(encoded.saturating_mul(2))
    }

    /// Bytes of the result.
    pub(super) fn decoded(&self, kind: ElementKind) -> u64 {
        let count = self.bytes().unwrap_or(u64::MAX) / self.element.bytes() as u64;
        count.saturating_mul(kind.bytes())
    }
}

fn parse(text: &str) -> Result<Header, String> {
    header(text).ok_or_else(not_understood)?
}

/// The dictionary; `None` where it is none, an error where its element type is none of ours.
fn header(text: &str) -> Option<Result<Header, String>> {
    let mut scan = Scan(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    scan.take("{").then_some(())?;
    while !scan.take("}") {
        let key = scan.quoted()?;
        scan.take(":").then_some(())?;
        match key {
            "descr" => descr = Some(scan.quoted().unwrap_or("a record")),
            "fortran_order" => fortran = Some(scan.boolean()?),
            "shape" => shape = Some(scan.shape()?),
            _ => return None,
        }
        if descr == Some("a record") {
            // A list of fields: no array of numbers, and nothing that has to be understood.
            return Some(Err(Element::unreadable("a record")));
        }
        // The last one has a comma too, as NumPy writes it, or has none.
        scan.take(",");
    }
    let (descr, fortran, shape) = (descr?, fortran?, shape?);
    let code = descr.trim_start_matches(['<', '>', '|', '=']);
    Some(Element::of_numpy(code).map_or_else(
        || Err(Element::unreadable(descr)),
        |element| {
            Ok(Header {
                element,
                big_endian: descr.starts_with('>'),
                fortran,
                shape,
            })
        },
    ))
}

fn not_understood() -> String {
    "its header is not one that NumPy writes".to_owned()
}

/// Reads `wanted` bytes, or as many as there are. Room grows with what is there, not with what is
/// merely wanted, and is never more than that.
fn at_most(file: &mut impl Read, wanted: u64) -> std::io::Result<Vec<u8>> {
    const FIRST: usize = 1 << 16;
    let mut bytes = Vec::new();
    loop {
        let missing = wanted.saturating_sub(bytes.len() as u64);
        let step = missing.min(bytes.len().max(FIRST) as u64);
        bytes.reserve_exact(step as usize);
        let got = file.by_ref().take(step).read_to_end(&mut bytes)?;
        if (got as u64) < step || got as u64 == missing {
            return Ok(bytes);
        }
    }
}

fn exact(file: &mut impl Read, buffer: &mut [u8]) -> Result<(), String> {
    let truncated = |error| format!("damaged or truncated in its header: {error}");
    file.read_exact(buffer).map_err(truncated)
}

/// What is left of a text.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    /// Goes past `token`, if it is next.
    fn take(&mut self, token: &str) -> bool {
        let rest = self.0.trim_start();
        let found = rest.strip_prefix(token);
        self.0 = found.unwrap_or(rest);
        found.is_some()
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = ["'", "\""].into_iter().find(|quote| self.take(quote))?;
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.take("True") {
            true => Some(true),
            false => self.take("False").then_some(false),
        }
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        self.take("(").then_some(())?;
        let mut shape = Vec::new();
        while !self.take(")") {
            let digits = self.0.find(|c: char| !c.is_ascii_digit())?;
            let (number, rest) = self.0.split_at(digits);
            shape.push(number.parse().ok().filter(|_| shape.len() < MAX_RANK)?);
            // Python 2 wrote long integers with an L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(",") {
                return self.take(")").then_some(shape);
            }
        }
        Some(shape)
    }
}
