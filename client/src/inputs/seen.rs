//! A folder that holds no batches: what it holds instead, and how to make batches of it.

use std::{collections::BTreeMap, path::Path};

use super::{InputError, arrays::entries, batches::BatchSet};

/// Files of what kinds can be made batches of, by their extensions, and the Python that reads one
/// of them, `f`, into an array.
const READERS: [(&[&str], &str, &str); 4] = [
    (
        &[
            "jpg", "jpeg", "png", "bmp", "webp", "gif", "ppm", "tif", "tiff",
        ],
        "from PIL import Image",
        "(np.float32(Image.open(f).convert(\"RGB\").resize((WIDTH, HEIGHT))) / 255)\
         .transpose(2, 0, 1)[None]",
    ),
    (
        &["bin", "raw", "dat", "rgb", "yuv"],
        "",
        "np.fromfile(f, np.float32).reshape(SHAPE)",
    ),
    (
        &["csv", "tsv", "txt"],
        "",
        "np.loadtxt(f, np.float32, delimiter=\",\", ndmin=2)",
    ),
    (
        &["pt", "pth"],
        "import torch",
        "torch.load(f, map_location=\"cpu\").numpy()",
    ),
];

/// The refusal of a folder without batches.
pub(super) fn no_batches(folder: &Path, set: BatchSet<'_>) -> InputError {
    let seen = extensions(folder);
    InputError::NoBatches {
        what: set.what,
        path: folder.to_owned(),
        keys: set.keys,
        seen: told(&seen),
        converter: converter(folder, &seen, set),
    }
}

/// How many files there are of each extension, in the folder and the folders in it.
fn extensions(folder: &Path) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let inner = entries(folder).unwrap_or_default();
    let below = inner.iter().filter(|entry| entry.is_dir());
    let below: Vec<_> = below
        .flat_map(|folder| entries(folder).unwrap_or_default())
        .collect();
    for file in inner.iter().chain(&below).filter(|entry| entry.is_file()) {
        let extension = file.extension().unwrap_or_default().to_string_lossy();
        *counts.entry(extension.to_lowercase()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// "12 .jpg, 3 .png and 1 other file".
fn told(seen: &[(String, usize)]) -> String {
    const TOLD: usize = 3;
    let (first, rest) = seen.split_at(seen.len().min(TOLD));
    let mut parts: Vec<_> = first
        .iter()
        .map(|(extension, count)| match extension.as_str() {
            "" => format!("{count} without an extension"),
            extension => format!("{count} .{extension}"),
        })
        .collect();
    match rest.iter().map(|(_, count)| count).sum::<usize>() {
        0 => {}
        others => parts.push(format!("{others} others")),
    }
    match parts.is_empty() {
        true => "no files".to_owned(),
        false => parts.join(", "),
    }
}

/// Three lines of Python for the kind of file that there is most of; "" where there is none.
fn converter(folder: &Path, seen: &[(String, usize)], set: BatchSet<'_>) -> String {
    let of = |extension: &str| {
        let found = READERS
            .iter()
            .find(|(known, ..)| known.contains(&extension));
        found.map(|&(_, import, reader)| (extension.to_owned(), import, reader))
    };
    let Some((extension, import, reader)) = seen.iter().find_map(|(found, _)| of(found)) else {
        return String::new();
    };
    let key = match set.inputs.and_then(<[String]>::first) {
        Some(input) => format!("{input:?}"),
        None => "\"NAME\"".to_owned(),
    };
    let pattern = format!("{}/**/*.{extension}", folder.display());
    let import = match import {
        "" => String::new(),
        import => format!("; {import}"),
    };
    format!(
        "\n  import glob, os, numpy as np{import}; os.makedirs(\"batches\", exist_ok=True)\
         \n  for i, f in enumerate(sorted(glob.glob({pattern:?}, recursive=True))):\
         \n      np.savez(f\"batches/{{i:04}}.npz\", **{{{key}: {reader}}})"
    )
}
