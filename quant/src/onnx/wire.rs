//! Protocol buffers field by field, before there is a message to put them into.

/// The fields of a message that hold bytes (text, messages, packed lists): number and content. Others
/// are passed over. Ends where the message does or stops making sense, which the decoder is to say.
///
/// Gives everything that the decoder would decode. Of a group, which ONNX does not have and the
/// decoder passes over, it gives what is inside as well.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// Numbers in the list `number` of a message, one a field or packed.
    pub(crate) fn varints(message: &'a [u8], number: u64) -> u64 {
        let ends = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte < 0x80).count() as u64;
        let mut fields = Self::of(message);
        let found = std::iter::from_fn(|| fields.field());
        let count = |(key, bytes): (u64, Option<&[u8]>)| match (key >> 3 == number, key & 7) {
            (true, 0) => 1,
            (true, 2) => bytes.map_or(0, ends),
            _ => 0,
        };
        found.map(count).sum()
    }

    /// The next field: its key, and its content where that is bytes.
    fn field(&mut self) -> Option<(u64, Option<&'a [u8]>)> {
        let key = self.varint()?;
        let mut content = None;
        match key & 7 {
            0 => {
                self.varint()?;
            }
            1 => {
                self.take(8)?;
            }
            2 => {
                let length = self.varint()?;
                content = Some(self.take(length)?);
            }
            // Begin and end of a group.
            3 | 4 => {}
            5 => {
                self.take(4)?;
            }
            _ => return None,
        }
        Some((key, content))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (key, Some(content)) = self.field()? {
                return Some((key >> 3, content));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::onnx::{AttributeProto, NodeProto};

    #[test]
    fn fields_of_bytes_are_given_and_others_passed_over() {
        let attribute = AttributeProto {
            f: Some(1.0),
            i: Some(-1),
            ..AttributeProto::default()
        };
        let node = NodeProto {
            input: vec!["x".to_owned(), String::new()],
            op_type: "o".repeat(200),
            attribute: vec![attribute.clone()],
            ..NodeProto::default()
        };
        let bytes = node.encode_to_vec();
        let fields: Vec<_> = Fields::of(&bytes).collect();
        let numbers: Vec<_> = fields.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 1, 4, 5]);
        assert_eq!(fields[2].1, "o".repeat(200).as_bytes());
        assert_eq!(fields[3].1, attribute.encode_to_vec());
        assert_eq!(Fields::of(fields[3].1).count(), 0);
    }

    #[test]
    fn numbers_of_a_list_are_counted_packed_or_not() {
        // 1: 5; 1: 300; a packed 1: 1, 300, 2; 2: 7; a packed 2: 9.
        let bytes = [
            8, 5, 8, 0xac, 2, 0x0a, 4, 1, 0xac, 2, 2, 0x10, 7, 0x12, 1, 9,
        ];
        let counts = [1, 2, 3].map(|number| Fields::varints(&bytes, number));
        assert_eq!(counts, [5, 2, 0]);
    }

    #[test]
    fn nothing_hides_behind_a_group() {
        // Field 9 begins a group with field 1 in it and ends it; then comes field 2.
        let bytes = [0x4b, 0x0a, 1, b'a', 0x4c, 0x12, 1, b'b'];
        let numbers: Vec<_> = Fields::of(&bytes).map(|(number, _)| number).collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn what_makes_no_sense_is_the_end() {
        for bytes in [
            &[0x0a][..],
            &[0x0a, 5, 1],
            &[0xff; 30],
            &[0x07, 0],
            &[0x09, 1],
        ] {
            assert_eq!(Fields::of(bytes).count(), 0, "{bytes:?}");
        }
        // A key in more bytes than it takes is still that key.
        assert_eq!(
            Fields::of(&[0x8a, 0x80, 0x00, 1, 7]).next(),
            Some((1, &[7][..]))
        );
    }
}
