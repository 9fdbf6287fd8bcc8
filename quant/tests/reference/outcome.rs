//! What becomes of a case, and the table of all.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use dual16_quant::{Error, batch::BatchFile, float::FloatModel, limits::InputLimits, model::Model};
use safetensors::SafeTensors;

use crate::{case::Case, compare};

/// From what is wanted to what is worst; a case is the worst that one of its batches is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Equal,
    /// Operators that draw numbers drew others.
    Random,
    /// An error that names the node, the operator or the input.
    Refused,
    /// An error that names none of them.
    Unnamed,
    Panic,
    Different,
}

pub struct Outcome {
    pub name: String,
    pub class: Class,
    pub message: String,
    /// What rewrote the model, if the numbers are equal.
    pub rewrites: BTreeSet<&'static str>,
}

impl Class {
    pub fn fails(self) -> bool {
        matches!(self, Class::Unnamed | Class::Panic | Class::Different)
    }
}

impl Outcome {
    pub fn group(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{:?}\t{}", self.name, self.class, self.message)
    }
}

/// Runs a case.
pub fn of(case: &Case) -> Outcome {
    let (class, message, rewrites) = catch_unwind(AssertUnwindSafe(|| run(case)))
        .unwrap_or_else(|panic| (Class::Panic, told(panic.as_ref()), BTreeSet::new()));
    Outcome {
        name: case.name.clone(),
        class,
        message: message.replace(['\n', '\t'], " "),
        rewrites,
    }
}

/// Writes every outcome to cargo's temporary folder, a line each.
pub fn write_table(outcomes: &[Outcome]) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reference.tsv");
    let lines = outcomes.iter().map(|outcome| format!("{outcome}\n"));
    fs::write(&path, lines.collect::<String>()).unwrap();
    eprintln!("every outcome is in {}", path.display());
}

/// "310 Equal, 85 Refused".
pub fn counted<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    let mut counts: BTreeMap<Class, usize> = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome.class).or_default() += 1;
    }
    let parts = counts
        .iter()
        .map(|(class, count)| format!("{count} {class:?}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn run(case: &Case) -> (Class, String, BTreeSet<&'static str>) {
    let path = case.folder.join("model.onnx");
    let loaded = Model::load("model.onnx", &path, &[], &InputLimits::DEFAULT).and_then(|model| {
        let float = FloatModel::load(&model, 1)?;
        Ok((model, float))
    });
    let (model, float) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let (class, message) = refusal(case, &error);
            return (class, message, BTreeSet::new());
        }
    };
    let batches = (0..case.batches).map(|index| {
        let (class, message) = run_batch(case, &model, &float, index);
        (class, format!("{message} (batch {index})"))
    });
    match batches.max_by_key(|(class, _)| *class) {
        Some((class, message)) if class != Class::Equal => (class, message, BTreeSet::new()),
        _ => (Class::Equal, String::new(), model.rewrites().clone()),
    }
}

fn run_batch(case: &Case, model: &Model, float: &FloatModel, index: usize) -> (Class, String) {
    let file = format!("batch_{index}.safetensors");
    let path = case.folder.join(&file);
    let batch = BatchFile::open(&file, &path, model.inputs(), &InputLimits::DEFAULT)
        .and_then(|mut file| file.read(0));
    let expected = fs::read(case.folder.join(format!("expected_{index}.safetensors"))).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let names = expected.names();
    let made = match batch.and_then(|batch| float.run(&batch, &names)) {
        Ok(made) => made,
        Err(error) => return refusal(case, &error),
    };
    let differences = expected.iter().filter_map(|(name, wanted)| {
        let difference = compare::difference(&made[name], &wanted, case.rtol, case.atol)?;
        Some(format!("{name}: {difference}"))
    });
    let differences = differences.collect::<Vec<_>>().join("; ");
    let class = match () {
        () if differences.is_empty() => Class::Equal,
        () if case.random => Class::Random,
        () => Class::Different,
    };
    (class, differences)
}

/// Whether an error names what it is about.
fn refusal(case: &Case, error: &Error) -> (Class, String) {
    let message = error.to_string();
    let part_of_name = |c: char| c.is_alphanumeric() || "_./:".contains(c);
    let named = |name: &String| {
        message.match_indices(name.as_str()).any(|(start, _)| {
            let before = message[..start].chars().next_back();
            let mut after = message[start + name.len()..].chars();
            let ends = match after.next() {
                // Of a sentence or of a list, not of a name.
                Some('.' | ':') => after.next().is_none_or(|c| !part_of_name(c)),
                next => next.is_none_or(|c| !part_of_name(c)),
            };
            ends && before.is_none_or(|c| !part_of_name(c))
        })
    };
    if case.names.iter().any(named) {
        (Class::Refused, message)
    } else {
        (Class::Unnamed, message)
    }
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_default()
}
