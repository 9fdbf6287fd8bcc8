//! The JSON files of a job against the schemas of docs/formats.md, so that no key is there which they
//! do not name.

use std::{collections::BTreeMap, fs, sync::OnceLock};

use jsonschema::Validator;
use serde_json::Value;

use crate::data::repository;

/// Each schema and the format that its files say they have.
const SCHEMAS: [(&str, &str); 3] = [
    ("dual16 result 1", "result"),
    ("dual16 plan 1", "plan"),
    ("dual16 dry run 1", "dry_run"),
];

/// Holds a file against the schema of its format.
///
/// # Panics
/// Where it has none, or breaks it; names the place.
pub fn check(file: &Value) {
    static VALIDATORS: OnceLock<BTreeMap<&str, Validator>> = OnceLock::new();
    let validators = VALIDATORS.get_or_init(|| {
        let all = SCHEMAS.into_iter();
        all.map(|(format, name)| (format, validator(name)))
            .collect()
    });
    let format = file["format"].as_str().unwrap_or_default();
    let validator = validators
        .get(format)
        .unwrap_or_else(|| panic!("no schema for the format {format:?}"));
    let broken: Vec<String> = validator
        .iter_errors(file)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(broken.is_empty(), "{format}:\n{}", broken.join("\n"));
}

fn validator(name: &str) -> Validator {
    let path = repository().join(format!("docs/schemas/{name}.schema.json"));
    let schema = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
