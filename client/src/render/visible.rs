//! Text that a terminal only shows. Names come from models, and models from anywhere: one may hold
//! what a terminal would take for an order to it.

use std::{borrow::Cow, fmt::Write as _};

/// The text with control characters as `\u001b`, but for line ends, tabs, and the colours that the
/// program itself adds where there are any. It is how JSON writes them, so that JSON stays the same.
pub(super) fn visible(text: &str, coloured: bool) -> Cow<'_, str> {
    if !text.contains(is_order) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(is_order) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(colour) = colour(rest).filter(|_| coloured) {
            shown.push_str(&rest[..colour]);
            rest = &rest[colour..];
            continue;
        }
        let mut chars = rest.chars();
        if let Some(order) = chars.next() {
            let _ = write!(shown, "\\u{:04x}", u32::from(order));
        }
        rest = chars.as_str();
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// A control character, or one that changes the direction of what comes after it.
fn is_order(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

/// The length of a sequence that sets a colour or a weight and nothing else, if one begins here.
pub(super) fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, shown) in [
            ("plain\n\tlines", "plain\n\tlines"),
            ("\u{1b}]52;c;aGk=\u{7}x", "\\u001b]52;c;aGk=\\u0007x"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("\u{9b}2J\u{7f}\r", "\\u009b2J\\u007f\\u000d"),
            ("fc\u{202e}1", "fc\\u202e1"),
            ("\u{1b}", "\\u001b"),
            ("\u{1b}[31", "\\u001b[31"),
            ("ü\u{1b}[1;31mü", "ü\\u001b[1;31mü"),
        ] {
            assert_eq!(visible(text, false), shown);
        }
    }

    #[test]
    fn colours_stay_where_there_are_any_and_nothing_else_does() {
        let text = "\u{1b}[1;31merror:\u{1b}[0m \u{1b}[m\u{1b}[31K\u{1b}[3\u{1b}[1m";
        let shown = "\u{1b}[1;31merror:\u{1b}[0m \u{1b}[m\\u001b[31K\\u001b[3\u{1b}[1m";
        assert_eq!(visible(text, true), shown);
    }

    #[test]
    fn json_means_the_same() {
        let name = "a\u{1b}[2J\u{7f}\u{9b}";
        let json = serde_json::to_string(name).unwrap();
        let shown = visible(&json, false);
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), name);
    }
}
