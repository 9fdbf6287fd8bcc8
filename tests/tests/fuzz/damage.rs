//! What happens to files: bits flip, ends go missing, parts of others get in, lengths lie.

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use crate::corpus::Input;

/// Values that arithmetic on lengths gets wrong, as fields of 8 bytes.
const LENGTHS: [u64; 14] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Longest input that damage may make.
const MAX_LENGTH: usize = 16 << 10;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// One bit is another.
    Flip { at: Index, bit: u8 },
    /// One byte is another.
    Set { at: Index, byte: u8 },
    /// The end is missing.
    Truncate { at: Index },
    /// A part is missing.
    Delete { from: Index, to: Index },
    /// A part is there several times.
    Repeat {
        from: Index,
        to: Index,
        times: usize,
    },
    /// A part of another input lies over this one, or pushes it aside.
    Splice {
        other: Index,
        from: Index,
        to: Index,
        at: Index,
        insert: bool,
    },
    /// A length in little-endian of `width` bytes is another.
    Length { at: Index, value: u64, width: usize },
    /// A length in the variable form of protocol buffers is another.
    Varint { at: Index, value: u64 },
}

/// One to six of them.
pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let at = any::<Index>;
    let value = || prop_oneof![select(LENGTHS.as_slice()), any::<u64>()];
    let width = select([1_usize, 2, 4, 8].as_slice());
    let one = prop_oneof![
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set { at, byte }),
        1 => at().prop_map(|at| Damage::Truncate { at }),
        1 => (at(), at()).prop_map(|(from, to)| Damage::Delete { from, to }),
        1 => (at(), at(), 1..64_usize)
            .prop_map(|(from, to, times)| Damage::Repeat { from, to, times }),
        1 => (at(), at(), at(), at(), any::<bool>()).prop_map(|(other, from, to, at, insert)| {
            Damage::Splice { other, from, to, at, insert }
        }),
        2 => (at(), value(), width).prop_map(|(at, value, width)| {
            Damage::Length { at, value, width }
        }),
        2 => (at(), value()).prop_map(|(at, value)| Damage::Varint { at, value }),
    ];
    vec(one, 1..=6)
}

impl Damage {
    /// Does it to `bytes`; `others` are what may get in.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>, others: &[Input]) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Damage::Flip { at, bit } => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Damage::Set { at, byte } => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Damage::Truncate { at } => bytes.truncate(at.index(bytes.len())),
            Damage::Delete { from, to } => drop(bytes.drain(part(bytes.len(), from, to))),
            Damage::Repeat { from, to, times } => {
                let part = part(bytes.len(), from, to);
                let again = bytes[part.clone()].repeat(*times);
                bytes.splice(part.end..part.end, again);
            }
            Damage::Splice {
                other,
                from,
                to,
                at,
                insert,
            } => {
                let other = &other.get(others).1;
                if other.is_empty() {
                    return;
                }
                let part = &other[part(other.len(), from, to)];
                let at = at.index(bytes.len());
                let end = if *insert { at } else { at + part.len() };
                bytes.splice(at..end.min(bytes.len()), part.iter().copied());
            }
            Damage::Length { at, value, width } => {
                let at = at.index(bytes.len());
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            Damage::Varint { at, value } => {
                let at = at.index(bytes.len());
                bytes.splice(at..=at, varint(*value));
            }
        }
        bytes.truncate(MAX_LENGTH);
    }
}

/// A range that is within `length`, whichever end came first.
fn part(length: usize, a: &Index, b: &Index) -> std::ops::Range<usize> {
    let (a, b) = (a.index(length), b.index(length));
    a.min(b)..a.max(b)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
