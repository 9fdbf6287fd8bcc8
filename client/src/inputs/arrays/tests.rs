use super::*;

/// A folder with these files, each an array that holds its own path.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, [MAGIC, file.as_bytes()].concat()).unwrap();
    }
    folder
}

fn found(files: &[&str], inputs: Option<&[&str]>) -> Result<Vec<ArrayBatch>, String> {
    let folder = folder(files);
    let inputs: Option<Vec<String>> =
        inputs.map(|inputs| inputs.iter().map(|&input| input.to_owned()).collect());
    let holdings = &mut Holdings::default();
    collect(folder.path(), "calib", inputs.as_deref(), holdings).map_err(|error| error.to_string())
}

fn names(batches: &[ArrayBatch]) -> Vec<&str> {
    batches.iter().map(|batch| batch.name.as_str()).collect()
}

fn inputs(batch: &ArrayBatch) -> Vec<(&str, &str)> {
    batch
        .arrays
        .iter()
        .map(|(input, path)| (input.as_str(), path.file_name().unwrap().to_str().unwrap()))
        .collect()
}

#[test]
fn files_of_one_name_are_one_batch_in_the_order_of_their_numbers() {
    let files = [
        "ids/10.npy",
        "ids/9.npy",
        "mask/9.npy",
        "mask/10.npy",
        "label/9.npy",
        "ids/notes.txt",
        "mask/._9.npy",
    ];
    let batches = found(&files, Some(&["mask", "ids"])).unwrap();
    assert_eq!(names(&batches), ["calib/9.npy", "calib/10.npy"]);
    assert_eq!(inputs(&batches[1]), [("ids", "10.npy"), ("mask", "10.npy")]);
}

#[test]
fn a_model_of_one_input_needs_no_folder_and_may_have_one() {
    for files in [["000.npy", "001.npy"], ["x/000.npy", "x/001.npy"]] {
        let batches = found(&files, Some(&["x"])).unwrap();
        assert_eq!(names(&batches), ["calib/000.npy", "calib/001.npy"]);
        assert_eq!(inputs(&batches[0]), [("x", "000.npy")]);
    }
    // As the exporter of another framework calls an input.
    let batches = found(&["serving/x:0/a.npy"], Some(&["serving/x:0"])).unwrap();
    assert_eq!(inputs(&batches[0]), [("serving/x:0", "a.npy")]);
    assert_eq!(found(&["photo.jpg"], Some(&["x"])).unwrap(), []);
}

#[test]
fn in_layer_mode_the_folders_are_the_layers() {
    let batches = found(&["fc.1/0.npy", "fc.2/0.npy"], None).unwrap();
    assert_eq!(inputs(&batches[0]), [("fc.1", "0.npy"), ("fc.2", "0.npy")]);
    let error = found(&["0.npy"], None).unwrap_err();
    assert!(error.contains("LAYER/000.npy"), "{error}");
}

#[test]
fn what_makes_no_batches_is_named() {
    let two = Some(&["ids", "mask"][..]);
    let cases = [
        (
            vec!["ids/0.npy", "ids/1.npy", "mask/0.npy"],
            vec!["'ids' has 2", "'mask' has 1", "ids/1.npy and no mask/1.npy"],
        ),
        (
            vec!["ids/0.npy", "mask/1.npy"],
            vec!["ids/0.npy and no mask/0.npy"],
        ),
        (
            vec!["ids/0.npy", "images/0.npy"],
            vec!["for input 'mask'", "folders for 'ids', 'images'"],
        ),
        (
            vec!["0.npy", "1.npy"],
            vec![
                "for input 'ids', 'mask'",
                "no folder of them",
                "NAME/000.npy",
            ],
        ),
    ];
    for (files, says) in cases {
        let error = found(&files, two).unwrap_err();
        for part in says {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[test]
fn a_name_from_a_model_leads_nowhere_else() {
    for name in ["../x", "/tmp/x", "a/../../x", "."] {
        assert_eq!(plain(name), None, "{name}");
    }
    assert_eq!(plain("a/b.1"), Some(Path::new("a/b.1")));
}

#[test]
fn a_file_that_is_no_array_is_named() {
    let folder = folder(&["x/0.npy", "x/1.npy"]);
    fs::write(folder.path().join("x/1.npy"), b"\x93NUM").unwrap();
    let inputs = ["x".to_owned()];
    let found = collect(
        folder.path(),
        "calib",
        Some(&inputs),
        &mut Holdings::default(),
    );
    let error = found.unwrap_err().to_string();
    assert!(
        error.contains("x/1.npy") && error.contains("numpy.save"),
        "{error}"
    );
}

#[test]
fn equal_arrays_make_equal_archives_of_the_files_as_they_are() {
    let archive = || {
        let folder = folder(&["b/0.npy", "a/0.npy"]);
        let inputs = ["b".to_owned(), "a".to_owned()];
        let holdings = &mut Holdings::default();
        let batches = collect(folder.path(), "calib", Some(&inputs), holdings).unwrap();
        assert_eq!(batches[0].bytes(), 2 * (MAGIC.len() as u64 + 7));
        let path = folder.path().join("0.npz");
        batches[0].archive(&path).unwrap();
        fs::read(path).unwrap()
    };
    let bytes = archive();
    assert_eq!(bytes, archive());
    let mut read = zip::ZipArchive::new(io::Cursor::new(bytes)).unwrap();
    for (index, name) in ["a.npy", "b.npy"].into_iter().enumerate() {
        let mut entry = read.by_index(index).unwrap();
        assert_eq!(entry.name(), name);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(content.starts_with(MAGIC) && content.ends_with(b"/0.npy"));
    }
}

#[test]
fn one_file_is_a_batch_of_a_model_with_one_input() {
    let folder = folder(&["eval.npy"]);
    let path = folder.path().join("eval.npy");
    let of = |inputs: Option<&[String]>| single(&path, "eval", inputs, &mut Holdings::default());
    let batch = of(Some(&["x".to_owned()])).unwrap();
    assert_eq!(
        (batch.name.as_str(), inputs(&batch)),
        ("eval/eval.npy", vec![("x", "eval.npy")])
    );
    assert!(of(None).is_err() && of(Some(&[])).is_err());
}
