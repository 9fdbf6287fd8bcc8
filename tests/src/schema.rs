//! The JSON files of a job and what commands print for programs, against the schemas of docs/formats.md, so
//! that no key is there which they do not name.

use std::{collections::BTreeMap, fs, path::Path, sync::OnceLock};

use jsonschema::Validator;
use serde_json::{Deserializer, Value};

use crate::{data::repository, results::names_in};

/// Each schema and the format that its files say they have.
const SCHEMAS: [(&str, &str); 8] = [
    ("dual16 result 1", "result"),
    ("dual16 plan 1", "plan"),
    ("dual16 dry run 1", "dry_run"),
    ("dual16 sensitivity 1", "sensitivity"),
    ("dual16 graph 1", "graph"),
    ("dual16 modules 1", "modules"),
    (VENDOR, "quant_config"),
    (PRINTED, "printed"),
];
/// The one file whose form is not ours, and which says none.
const VENDOR: &str = "quant_config.json";
/// What is printed and no file.
const PRINTED: &str = "printed";

/// Holds a file against the schema of its format.
///
/// # Panics
/// Where it has none, or breaks it; names the place.
pub fn check(file: &Value) {
    hold(file, file["format"].as_str().unwrap_or_default());
}

/// Holds every file of JSON in a folder for results, and in its folder for the toolchain, against its schema.
///
/// # Panics
/// As [`check`], and where a file is no JSON.
pub fn check_folder(folder: &Path) {
    for folder in [folder, &folder.join("handoff")] {
        for name in names_in(folder) {
            if !name.ends_with(".json") {
                continue;
            }
            let text = fs::read_to_string(folder.join(&name)).unwrap();
            let file: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{name} is no JSON: {error}"));
            match name == VENDOR {
                true => hold(&file, VENDOR),
                false => check(&file),
            }
        }
    }
}

/// Holds what a command printed for programs, documents or lines, against their schemas.
///
/// # Panics
/// As [`check_folder`].
pub fn check_printed(text: &str) {
    for document in Deserializer::from_str(text).into_iter() {
        let document: Value =
            document.unwrap_or_else(|error| panic!("{text:?} is no JSON: {error}"));
        match document.get("format") {
            Some(_) => check(&document),
            None => hold(&document, PRINTED),
        }
    }
}

fn hold(file: &Value, format: &str) {
    static VALIDATORS: OnceLock<BTreeMap<&str, Validator>> = OnceLock::new();
    let validators = VALIDATORS.get_or_init(|| {
        let all = SCHEMAS.into_iter();
        all.map(|(format, name)| (format, validator(name)))
            .collect()
    });
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
