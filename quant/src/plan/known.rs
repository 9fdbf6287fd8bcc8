//! The names that settings may use, and what they find. A text that is somebody's name means that
//! one, whatever it would match as a glob. Names are ranked ([`Names::ranked`]), and the first rank
//! where there is a match is the only one that counts: a glob meant for modules must not catch
//! another layer by the number that its exporter gave it.

use std::borrow::Cow;

use globset::{Glob, GlobMatcher};

use super::{Slot, siblings};
use crate::{
    Error, Result,
    graph::{Graph, Names},
    notice::Notice,
};

/// Most suggestions in an error.
const SUGGESTIONS: usize = 3;

/// An alias is suggested rather than the name itself if it is this much nearer.
const NEARER: f64 = 0.1;

/// What a setting can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A Linear, by node index.
    Linear(usize),
    /// A tensor inside a Linear.
    Slot(usize, Slot),
    /// A value, by its index.
    Value(usize),
    /// A node, whatever it is, by its index.
    Node(usize),
}

/// One target and all its names.
pub(super) struct Entry<'g> {
    target: Target,
    /// With their ranks; the first is its own.
    names: Vec<(usize, Cow<'g, str>)>,
}

/// What a name or glob finds.
pub(super) struct Found {
    /// In the order of the entries; never empty.
    pub(super) targets: Vec<Target>,
    /// It was read as a glob.
    pub(super) is_glob: bool,
    /// What the user may not have meant.
    pub(super) notice: Option<Notice>,
}

/// Every name of a graph.
pub(super) struct Known<'g> {
    linears: Vec<Entry<'g>>,
    slots: Vec<Entry<'g>>,
    values: Vec<Entry<'g>>,
    nodes: Vec<Entry<'g>>,
}

impl<'g> Known<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        let linears = graph.linears().map(|(id, node, _)| Entry {
            target: Target::Linear(id.0),
            names: node.names.ranked().map(borrowed).collect(),
        });
        let slots = graph.linears().flat_map(|(id, node, _)| {
            Slot::ALL.into_iter().map(move |slot| Entry {
                target: Target::Slot(id.0, slot),
                names: suffixed(&node.names, &format!(".{}", slot.suffix())),
            })
        });
        Self {
            linears: linears.collect(),
            slots: slots.collect(),
            values: values(graph),
            nodes: nodes(graph),
        }
    }

    /// Linears.
    pub(super) fn linears(&self, setting: &str, text: &str) -> Result<Found> {
        find(setting, text, "Linear layer", &[&self.linears])
    }

    /// Nodes of every kind.
    pub(super) fn operators(&self, setting: &str, text: &str) -> Result<Found> {
        find(setting, text, "operator", &[&self.nodes])
    }

    /// Values.
    pub(super) fn values(&self, setting: &str, text: &str) -> Result<Found> {
        find(setting, text, "tensor", &[&self.values])
    }

    /// Values and the tensors inside Linears alike.
    pub(super) fn tensors(&self, setting: &str, text: &str) -> Result<Found> {
        find(setting, text, "tensor", &[&self.slots, &self.values])
    }
}

fn borrowed((rank, name): (usize, &str)) -> (usize, Cow<'_, str>) {
    (rank, Cow::Borrowed(name))
}

/// The names of a tensor inside an operation.
fn suffixed<'g>(names: &Names, suffix: &str) -> Vec<(usize, Cow<'g, str>)> {
    let name = |(rank, name): (usize, &str)| (rank, Cow::Owned(format!("{name}{suffix}")));
    names.ranked().map(name).collect()
}

/// Values are called as the operation that makes them, with a suffix where that makes several, and
/// by their name in the file.
fn values(graph: &Graph) -> Vec<Entry<'_>> {
    let values = graph.values.iter().enumerate();
    let mut entries: Vec<Entry<'_>> = values
        .map(|(index, value)| Entry {
            target: Target::Value(index),
            names: vec![borrowed((0, &value.name))],
        })
        .collect();
    for (_, node) in graph.running() {
        for &output in &node.outputs {
            let (value, entry) = (graph.value(output), &mut entries[output.0]);
            let suffix = value.name.strip_prefix(&node.names.name);
            entry.names.extend(match suffix {
                Some("") => node.names.ranked().skip(1).map(borrowed).collect(),
                Some(suffix) => suffixed(&node.names, suffix),
                None => Vec::new(),
            });
            entry
                .names
                .extend(value.onnx.as_deref().map(|name| borrowed((3, name))));
        }
    }
    entries
}

/// A node has a name of its own and those of the operation that it is part of. One that a remedy replaced
/// keeps them, so that what is asked of it means the same.
fn nodes(graph: &Graph) -> Vec<Entry<'_>> {
    let nodes = graph.nodes.iter().enumerate();
    nodes
        .map(|(index, node)| Entry {
            target: Target::Node(index),
            names: std::iter::once((0, node.name.as_str()))
                .chain(node.names.ranked())
                .map(borrowed)
                .collect(),
        })
        .collect()
}

fn find(setting: &str, text: &str, what: &'static str, among: &[&[Entry<'_>]]) -> Result<Found> {
    let entries = || among.iter().copied().flatten();
    if let Some((_, targets)) = first_rank(entries(), |name| name == text) {
        return Ok(Found {
            targets,
            is_glob: false,
            notice: None,
        });
    }
    let glob = glob(setting, text)?;
    let matches = |name: &str| glob.as_ref().is_some_and(|glob| glob.is_match(name));
    let Some((rank, targets)) = first_rank(entries(), matches) else {
        return Err(unknown(what, text, entries()));
    };
    let names = entries().flat_map(|entry| entry.of_rank(rank));
    Ok(Found {
        targets,
        is_glob: true,
        notice: siblings::partial(text, &names.collect::<Vec<_>>()),
    })
}

/// The first rank with a match, and what matches there.
fn first_rank<'e, 'g: 'e>(
    entries: impl Iterator<Item = &'e Entry<'g>>,
    matches: impl Fn(&str) -> bool,
) -> Option<(usize, Vec<Target>)> {
    let hits = |entry: &Entry<'_>| {
        let hits = entry.names.iter().filter(|(_, name)| matches(name));
        hits.map(|(rank, _)| *rank).collect::<Vec<_>>()
    };
    let found: Vec<(Target, Vec<usize>)> = entries
        .map(|entry| (entry.target, hits(entry)))
        .filter(|(_, ranks)| !ranks.is_empty())
        .collect();
    let first = found.iter().flat_map(|(_, ranks)| ranks).copied().min()?;
    let at_first = found
        .into_iter()
        .filter(|(_, ranks)| ranks.contains(&first));
    Some((first, at_first.map(|(target, _)| target).collect()))
}

/// A text without `*`, `?`, `[` or `{` is no glob.
fn glob(setting: &str, text: &str) -> Result<Option<GlobMatcher>> {
    if !text.contains(['*', '?', '[', '{']) {
        return Ok(None);
    }
    let glob = Glob::new(text).map_err(|error| Error::Setting {
        setting: setting.to_owned(),
        reason: format!(
            "'{text}' is nobody's name and no valid glob: {}",
            error.kind()
        ),
    })?;
    Ok(Some(glob.compile_matcher()))
}

impl Entry<'_> {
    fn of_rank(&self, rank: usize) -> impl Iterator<Item = &str> {
        let names = self.names.iter().filter(move |(of, _)| *of == rank);
        names.map(|(_, name)| name.as_ref())
    }

    /// How near a name comes, and the name to suggest: an alias tells whose it is.
    fn nearness(&self, text: &str) -> (f64, String) {
        let near = |name: &str| strsim::jaro_winkler(text, name);
        let own = self.names.first().map_or("", |(_, name)| name.as_ref());
        let aliases = self.names.iter().skip(1).map(|(_, name)| name.as_ref());
        let best = aliases
            .map(|name| (near(name), name))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((nearness, alias)) if nearness > near(own) + NEARER => {
                (nearness, format!("{alias} ({own})"))
            }
            _ => (near(own), own.to_owned()),
        }
    }
}

/// The error for a name that matches nothing.
fn unknown<'e, 'g: 'e>(
    what: &'static str,
    name: &str,
    entries: impl Iterator<Item = &'e Entry<'g>>,
) -> Error {
    let mut near: Vec<(f64, String)> = entries.map(|entry| entry.nearness(name)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    Error::UnknownName {
        what,
        name: name.to_owned(),
        near: near
            .into_iter()
            .map(|(_, name)| name)
            .take(SUGGESTIONS)
            .collect(),
    }
}
