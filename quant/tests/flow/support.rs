//! Runs a whole job in this process.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use dual16_quant::{
    InputLimits, Result,
    flow::{Blobs, Control, Event, Executor, FileRef, JobInput, JobKind, ModelInput},
    memory::MemoryBudget,
    settings::{NamedSetting, SettingValue, Settings},
};

/// Files by a name that stands for their digest; results in a temporary folder.
pub struct Folder {
    directory: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        Folder {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn free_name(&self) -> io::Result<String> {
        Ok(std::fs::read_dir(self.directory.path())?
            .count()
            .to_string())
    }
}

impl Blobs for Folder {
    fn path(&self, digest: &str) -> io::Result<PathBuf> {
        Ok(match digest.starts_with('/') {
            true => PathBuf::from(digest),
            false => self.directory.path().join(digest),
        })
    }

    fn put(&self, bytes: Vec<u8>) -> io::Result<String> {
        let name = self.free_name()?;
        std::fs::write(self.directory.path().join(&name), bytes)?;
        Ok(name)
    }

    fn put_file(&self, file: &Path) -> io::Result<String> {
        let name = self.free_name()?;
        std::fs::copy(file, self.directory.path().join(&name))?;
        Ok(name)
    }
}

/// Never cancelled.
pub struct Go;

impl Control for Go {
    fn cancelled(&self) -> bool {
        false
    }
}

/// What a finished job left.
pub struct Finished {
    pub files: BTreeMap<String, Vec<u8>>,
    pub events: Vec<Event>,
    pub stages: Vec<(String, usize)>,
}

impl Finished {
    pub fn result(&self) -> serde_json::Value {
        serde_json::from_slice(&self.files["result.json"]).unwrap()
    }
}

/// Runs a job to its end. The maps of a stage run in the order given by `order`.
pub fn run_in_order(job: &JobInput, order: impl Fn(&mut [usize])) -> Result<Finished> {
    run_on(&Executor::new(MemoryBudget::new(None)), job, order)
}

/// The same on an executor of the caller's.
pub fn run_on(
    executor: &Executor,
    job: &JobInput,
    order: impl Fn(&mut [usize]),
) -> Result<Finished> {
    let blobs = Folder::new();
    let (mut events, mut stages) = (Vec::new(), Vec::new());
    let mut arrange = |stage: &str, maps: &mut [usize]| {
        stages.push((stage.to_owned(), maps.len()));
        order(maps);
    };
    let files = executor.run_job(job, &blobs, &Go, &mut arrange, &mut |event| {
        events.push(event)
    })?;
    let read = |file: FileRef| {
        let bytes = std::fs::read(blobs.path(&file.digest).unwrap()).unwrap();
        assert_eq!(bytes.len() as u64, file.size, "{}", file.name);
        (file.name, bytes)
    };
    Ok(Finished {
        files: files.into_iter().map(read).collect(),
        events,
        stages,
    })
}

pub fn run(job: &JobInput) -> Result<Finished> {
    run_in_order(job, |_| {})
}

/// The repository's test data.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(path)
}

pub fn file(path: &Path) -> FileRef {
    FileRef {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        digest: path.to_str().unwrap().to_owned(),
        size: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
    }
}

/// Every batch file of a folder, in order.
pub fn batches(folder: &Path) -> Vec<FileRef> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| file(path)).collect()
}

/// A job on one of the repository's models, measured on its eval file.
pub fn job(model: &str, settings: Settings) -> JobInput {
    let model = match model.starts_with('/') {
        true => PathBuf::from(model),
        false => data(model),
    };
    let mut job = JobInput {
        model: ModelInput::Onnx {
            model: file(&model.join("model.onnx")),
            external_data: vec![],
        },
        calibration: batches(&model.join("calib")),
        evaluation: vec![file(&model.join("eval.safetensors"))],
        settings,
        kind: JobKind::Quantize,
        limits: InputLimits::DEFAULT,
        digest: String::new(),
    };
    job.digest = format!("{job:?}");
    job
}

/// Default settings with some by name, for the plain flow: outputs are as good as they are.
pub fn settings(by_name: &[(&str, SettingValue)]) -> Settings {
    let named = |(name, value): &(&str, SettingValue)| NamedSetting {
        name: (*name).to_owned(),
        value: value.clone(),
    };
    Settings {
        by_name: by_name.iter().map(named).collect(),
        min_output_sqnr: 0.0,
        ..Settings::default()
    }
}

/// A smooth curve through both signs.
pub fn curve(len: usize, step: f32) -> Vec<f32> {
    (0..len).map(|i| (step * i as f32 + 0.3).sin()).collect()
}
