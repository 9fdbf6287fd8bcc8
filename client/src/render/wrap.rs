//! Text in a given width: wrapped at words with a hanging indentation, or shortened in its middle.
//! Columns are those of a terminal: a wide character has two, a colour none.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar as _;

use super::visible::colour;

/// An indentation beyond this leaves no room for text.
const DEEPEST: usize = 32;

/// Columns that `text` takes.
pub(super) fn width_of(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = match colour(rest) {
            Some(length) => length,
            None => {
                width += character.width().unwrap_or(0);
                character.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    width
}

/// Each line of `text` in at most `width` columns, broken between words. What follows a break stands
/// below the line's own text: below the second column of a list, else `hang` beyond its indentation.
/// A word that is longer than the width stays whole, so that it can be copied.
pub(crate) fn wrapped(text: &str, width: Option<usize>, hang: usize) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| wrapped_line(line, width, hang))
        .collect();
    lines.join("\n")
}

fn wrapped_line(line: &str, width: usize, hang: usize) -> String {
    if width_of(line) <= width {
        return line.to_owned();
    }
    let indent = " ".repeat(text_column(line).unwrap_or_else(|| leading(line) + hang));
    let mut out = String::new();
    let (mut column, mut empty) = (0, true);
    // The first piece keeps the line's own spaces: they align its columns.
    for piece in line.split_inclusive(' ') {
        let word = piece.trim_end_matches(' ');
        if !empty && !word.is_empty() && column + width_of(word) > width {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.push_str(&indent);
            column = indent.len();
        }
        out.push_str(piece);
        column += width_of(piece);
        empty &= word.is_empty();
    }
    out
}

fn leading(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Where the second column of a list begins: after a first word and more than one space.
fn text_column(line: &str) -> Option<usize> {
    let start = leading(line);
    let first = line[start..].find("  ")? + start;
    let column = first + leading(&line[first..]);
    let column = width_of(&line[..column]);
    (column <= DEEPEST).then_some(column)
}

/// A name in at most `width` columns: its beginning, "…", and its end, which tell names apart.
pub(super) fn shortened(name: &str, width: usize) -> Cow<'_, str> {
    if width_of(name) <= width {
        return Cow::Borrowed(name);
    }
    let room = width.saturating_sub(1);
    let mut head = String::new();
    for character in name.chars() {
        let longer = width_of(&head) + character.width().unwrap_or(0);
        if longer > room / 2 {
            break;
        }
        head.push(character);
    }
    let mut tail = Vec::new();
    let mut left = room - width_of(&head);
    for character in name.chars().rev() {
        let Some(less) = left.checked_sub(character.width().unwrap_or(0)) else {
            break;
        };
        left = less;
        tail.push(character);
    }
    Cow::Owned(head + "…" + &tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_a_terminal() {
        assert_eq!(width_of("层1"), 3);
        assert_eq!(width_of("\u{1b}[1;31merror:\u{1b}[0m x"), 8);
    }

    #[test]
    fn a_line_breaks_between_words_and_hangs() {
        let text = "warning: encoder.layer.0.attention: it runs int8";
        assert_eq!(
            wrapped(text, Some(30), 2),
            "warning:\n  encoder.layer.0.attention:\n  it runs int8"
        );
        assert_eq!(wrapped(text, None, 2), text);
        assert_eq!(
            wrapped("a-word-without-an-end b", Some(5), 2),
            "a-word-without-an-end\n  b"
        );
        assert_eq!(wrapped("one\ntwo", Some(3), 2), "one\ntwo");
    }

    #[test]
    fn a_list_hangs_below_its_second_column() {
        let list = "  a16w8  one product of int16 and int8\n  split  two of them";
        assert_eq!(
            wrapped(list, Some(24), 2),
            "  a16w8  one product of\n         int16 and int8\n  split  two of them"
        );
    }

    #[test]
    fn a_name_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("encoder.layer.0.query", 11), "encod…query");
        assert_eq!(shortened("short", 11), "short");
        assert_eq!(width_of(&shortened("层层层层层层", 7)), 7);
    }
}
