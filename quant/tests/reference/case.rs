//! A case as the generator wrote it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A model, batches, and what is expected of each.
pub struct Case {
    /// "GROUP/NAME".
    pub name: String,
    pub folder: PathBuf,
    pub batches: usize,
    /// Whether an operator draws numbers, so that none can be expected.
    pub random: bool,
    /// Largest difference relative to the value.
    pub rtol: f64,
    /// Largest difference relative to the largest value.
    pub atol: f64,
    /// Nodes, operators and inputs: what a refusal may name.
    pub names: Vec<String>,
}

impl Case {
    /// Every case of a folder, by name.
    pub fn all(folder: &Path) -> Vec<Case> {
        let mut folders: Vec<PathBuf> = entries(folder)
            .filter(|group| group.is_dir())
            .flat_map(|group| entries(&group).collect::<Vec<_>>())
            .collect();
        folders.sort();
        folders.iter().map(|one| Case::read(one)).collect()
    }

    fn read(folder: &Path) -> Case {
        let about = fs::read(folder.join("case.json")).unwrap();
        let about: Value = serde_json::from_slice(&about).unwrap();
        let names = about["names"].as_array().unwrap();
        Case {
            name: about["name"].as_str().unwrap().to_owned(),
            folder: folder.to_owned(),
            batches: usize::try_from(about["batches"].as_u64().unwrap()).unwrap(),
            random: about["random"].as_bool().unwrap(),
            rtol: about["rtol"].as_f64().unwrap(),
            atol: about["atol"].as_f64().unwrap(),
            names: names
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect(),
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path())
}
