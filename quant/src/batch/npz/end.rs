//! The record at the end of an archive, which says how many entries there are: what reads the
//! archive makes room for that many before it has seen one.

use std::io::{self, Read, Seek, SeekFrom};

/// `PK\5\6`, 16 bytes of fields, the length of the comment. The entries are counted at 10.
const END: &[u8; 4] = b"PK\x05\x06";
const END_BYTES: usize = 22;
/// `PK\6\7`, just before the end record where the figures do not fit it; a position at 8.
const LOCATOR: &[u8; 4] = b"PK\x06\x07";
const LOCATOR_BYTES: usize = 20;
/// `PK\6\6`. The entries are counted in 8 bytes at 32.
const WIDE_END: &[u8; 4] = b"PK\x06\x06";
const WIDE_END_BYTES: usize = 56;
/// The end record with the longest comment there can be, and the locator before it.
const TAIL_BYTES: usize = LOCATOR_BYTES + END_BYTES + 0xffff;

/// Entries of an archive as it says itself; `None` where it does not end as one does.
pub(super) fn entries(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let size = file.seek(SeekFrom::End(0))?;
    let start = size.saturating_sub(TAIL_BYTES as u64);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut tail)?;
    let Some(end) = (0..=tail.len().saturating_sub(END_BYTES))
        .rev()
        .find(|&at| is_end(&tail, at))
    else {
        return Ok(None);
    };
    let counted = u64::from(u16_at(&tail, end + 10).unwrap_or(0));
    let locator = end.checked_sub(LOCATOR_BYTES);
    let Some(locator) = locator.filter(|&at| tail[at..].starts_with(LOCATOR)) else {
        return Ok(Some(counted));
    };
    // Beyond the file there is nothing to read, and a seek may fail as a broken disk would.
    let position = u64_at(&tail, locator + 8).filter(|&position| position <= size);
    let Some(position) = position else {
        return Ok(None);
    };
    let mut wide = Vec::new();
    file.seek(SeekFrom::Start(position))?;
    file.take(WIDE_END_BYTES as u64).read_to_end(&mut wide)?;
    let found = wide.starts_with(WIDE_END);
    Ok(u64_at(&wide, 32).filter(|_| found))
}

/// Whether the end record begins here: its comment must reach to the end of the file.
fn is_end(tail: &[u8], at: usize) -> bool {
    let comment = tail[at..].get(END_BYTES..).map(<[u8]>::len);
    let told = || u16_at(tail, at + 20).map(usize::from);
    tail[at..].starts_with(END) && comment.is_some() && comment == told()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn archive(names: &[&str], comment: &str) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            let wide = SimpleFileOptions::default().large_file(true);
            archive.start_file(*name, wide).unwrap();
            archive.write_all(b"PK\x05\x06 is no end").unwrap();
        }
        archive.set_comment(comment);
        archive.finish().unwrap().into_inner()
    }

    fn counted(bytes: &[u8]) -> Option<u64> {
        entries(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn entries_are_counted_with_a_comment_and_without() {
        assert_eq!(counted(&archive(&[], "")), Some(0));
        assert_eq!(counted(&archive(&["a", "b"], "")), Some(2));
        assert_eq!(counted(&archive(&["a"], &"c".repeat(60_000))), Some(1));
    }

    #[test]
    fn a_count_that_does_not_fit_two_bytes_is_read() {
        let mut wide = archive(&["a"], "");
        let end = wide.split_off(wide.len() - END_BYTES);
        let position = wide.len() as u64;
        let count = 70_000_u64.to_le_bytes();
        wide.extend([WIDE_END, &[0; 20][..], &count, &count, &[0; 16]].concat());
        wide.extend([LOCATOR, &[0; 4][..], &position.to_le_bytes(), &[0; 4]].concat());
        wide.extend(end);
        assert_eq!(counted(&wide), Some(70_000));
    }

    #[test]
    fn a_position_beyond_the_file_is_no_archive_and_no_fault_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.npz");
        for position in [u64::MAX, 1 << 63, 43] {
            let locator = [LOCATOR, &[0; 4][..], &position.to_le_bytes(), &[0; 4]].concat();
            let bytes = [&locator[..], END, &[0; 18]].concat();
            std::fs::write(&path, bytes).unwrap();
            let found = entries(&mut std::fs::File::open(&path).unwrap());
            assert_eq!(found.unwrap(), None, "{position}");
        }
    }

    #[test]
    fn what_is_no_archive_has_no_entries() {
        let whole = archive(&["a"], "");
        let cut = &whole[..whole.len() - 1];
        for bytes in [&b""[..], b"PK", b"PK\x05\x06e", &[0; 100_000], cut] {
            assert_eq!(counted(bytes), None, "{} bytes", bytes.len());
        }
    }
}
