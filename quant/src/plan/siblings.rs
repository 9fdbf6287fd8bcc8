//! Globs that mean every block and reach only some. `blocks.*.attn.linear_1` matches in block 0
//! alone where the exporter numbered on (`blocks.1.attn.linear_4`); `blocks.?.fc` ends before block
//! 10. A glob that says which blocks it means, as `blocks.0.*` does, is taken at its word.

use std::collections::{BTreeMap, BTreeSet};

use globset::Glob;

use crate::notice::Notice;

/// Most names of what was not matched.
const NAMED: usize = 3;

/// Most names of matched blocks that are looked for in the others; blocks are alike, or numbered on.
const TRIED: usize = 16;

/// What the parts of a path are separated by: in modules, in names of nodes.
const SEPARATORS: [char; 2] = ['.', '/'];

/// Names in the same module of all blocks: `blocks.`, and `.attn` after the number.
type Family<'n> = (&'n str, &'n str);

/// The names of one block in a family.
#[derive(Default)]
struct Block<'n> {
    is_matched: bool,
    names: Vec<&'n str>,
}

/// A notice where a glob matches in one block and, by the same name, nothing in another that has
/// names in the same module.
pub(super) fn partial(glob: &str, names: &[&str]) -> Option<Notice> {
    let matcher = Glob::new(glob).ok()?.compile_matcher();
    let meant = Glob::new(&any_number(glob)).ok()?.compile_matcher();
    let mut families: BTreeMap<Family<'_>, BTreeMap<u64, Block<'_>>> = BTreeMap::new();
    let mut matched_rests: BTreeMap<Family<'_>, BTreeSet<&str>> = BTreeMap::new();
    for &name in names {
        let is_matched = matcher.is_match(name);
        for (before, number, module, rest) in numbered(name) {
            let family = (before, module);
            let block = families
                .entry(family)
                .or_default()
                .entry(number)
                .or_default();
            block.is_matched |= is_matched;
            block.names.push(name);
            if is_matched {
                matched_rests.entry(family).or_default().insert(rest);
            }
        }
    }
    families.iter().find_map(|((before, module), blocks)| {
        let rests = matched_rests.get(&(*before, *module))?;
        let is_missed = |number: u64| {
            let wanted = |rest: &&str| meant.is_match(format!("{before}{number}{rest}"));
            rests.iter().take(TRIED).any(wanted)
        };
        let (matched, others): (Vec<_>, Vec<_>) =
            blocks.iter().partition(|(_, block)| block.is_matched);
        let missed: Vec<(u64, &Block<'_>)> = others
            .into_iter()
            .map(|(number, block)| (*number, block))
            .filter(|(number, _)| is_missed(*number))
            .collect();
        let (_, example) = missed.first()?;
        let family = |numbers: Vec<u64>| format!("{before}{}{module}", ranges(&numbers));
        let examples: Vec<&str> = example.names.iter().take(NAMED).copied().collect();
        Some(Notice {
            warning: true,
            code: "GLOB_PARTIAL".to_owned(),
            subject: glob.to_owned(),
            message: format!(
                "it matches in {} and nothing in {}, where there is {}{}; \
                 'dual16 plan --names' lists what each layer is called",
                family(matched.iter().map(|(number, _)| **number).collect()),
                family(missed.iter().map(|(number, _)| *number).collect()),
                examples.join(", "),
                match example.names.len() > NAMED {
                    true => ", …",
                    false => "",
                },
            ),
        })
    })
}

/// The glob with `?` standing for a number of any length.
fn any_number(glob: &str) -> String {
    let part = |part: &str| {
        let segment = part.trim_end_matches(SEPARATORS);
        let is_digits = !segment.is_empty() && segment.bytes().all(|b| b == b'?');
        match is_digits {
            true => part.replacen(segment, "*", 1),
            false => part.to_owned(),
        }
    };
    glob.split_inclusive(SEPARATORS).map(part).collect()
}

/// What stands before each number in a name, the number, the module after it, and all after it.
fn numbered(name: &str) -> impl Iterator<Item = (&str, u64, &str, &str)> {
    let mut end = 0;
    name.split_inclusive(SEPARATORS).filter_map(move |part| {
        let start = end;
        end += part.len();
        let segment = part.strip_suffix(SEPARATORS)?;
        if !segment.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = segment.parse().ok()?;
        let rest = name.get(start + segment.len()..)?;
        let module = rest.get(..rest.rfind(SEPARATORS)?)?;
        Some((name.get(..start)?, number, module, rest))
    })
}

/// "0", or "{0-3,7}".
fn ranges(numbers: &[u64]) -> String {
    if let [number] = numbers {
        return number.to_string();
    }
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(u64::to_string).collect(),
    });
    format!("{{{}}}", runs.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING_ON: [&str; 8] = [
        "blocks.0.attn.linear",
        "blocks.0.attn.linear_1",
        "blocks.0.fc",
        "blocks.1.attn.linear_4",
        "blocks.1.attn.linear_5",
        "blocks.1.fc",
        "blocks.2.fc",
        "head",
    ];

    #[test]
    fn a_glob_for_every_block_that_reaches_one_is_noticed() {
        let notice = partial("blocks.*.attn.linear_1", &RUNNING_ON).unwrap();
        assert!(notice.warning);
        assert_eq!(notice.code, "GLOB_PARTIAL");
        assert_eq!(
            notice.message,
            "it matches in blocks.0.attn and nothing in blocks.1.attn, where there is \
             blocks.1.attn.linear_4, blocks.1.attn.linear_5; 'dual16 plan --names' lists what each \
             layer is called"
        );
        for partial_glob in ["*.linear_1", "*linear_4", "{head,blocks.*.linear}"] {
            assert!(
                partial(partial_glob, &RUNNING_ON).is_some(),
                "{partial_glob}"
            );
        }
    }

    #[test]
    fn a_glob_that_says_its_blocks_or_reaches_all_is_not() {
        for glob in [
            "*",
            "blocks.*",
            "blocks.*.fc",
            "blocks.0.*",
            "blocks.[01].fc",
            "blocks.{0,1}.*",
            "blocks.0.attn.linear_*",
            "blocks.*.attn.linear*",
            "head*",
            "nothing*",
            "[",
        ] {
            assert_eq!(partial(glob, &RUNNING_ON), None, "{glob}");
        }
    }

    #[test]
    fn a_question_mark_ends_before_the_tenth_block() {
        let names: Vec<String> = (0..12)
            .map(|block| format!("net/{block}/fc/MatMul"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let notice = partial("net/?/fc/*", &names).unwrap();
        assert!(
            notice
                .message
                .contains("net/{0-9}/fc and nothing in net/{10-11}/fc"),
            "{}",
            notice.message
        );
        assert_eq!(partial("net/?*/fc/*", &names), None);
    }
}
