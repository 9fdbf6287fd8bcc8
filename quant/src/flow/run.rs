//! A whole job in this process, without a queue.

use super::{
    Blobs, Control, Event, Executor, FIRST_STAGE, FileRef, JobInput, Next, Part, QueuedStage,
    TaskInput, TaskOutput,
};
use crate::{Result, memory::MemoryBudget};

/// Runs a job to its end, one task after the other, and returns its files, which are in `blobs`. What a
/// task has to tell is given to `tell` as soon as it is done. Any queue that runs the same tasks leaves the
/// same bytes.
///
/// # Errors
/// Bad input, named; [`Error::Cancelled`](crate::Error::Cancelled) once `control` says so; whatever `blobs`
/// says.
///
/// ```
/// use std::{io, path::{Path, PathBuf}};
/// use dual16_quant::{InputLimits, flow::{Blobs, Control, FileRef, JobInput, JobKind, ModelInput}, settings::Settings};
///
/// /// Files by path; what a job makes goes to a folder.
/// struct Files(tempfile::TempDir);
/// impl Blobs for Files {
///     fn path(&self, digest: &str) -> io::Result<PathBuf> {
///         Ok(self.0.path().join(digest))
///     }
///     fn put(&self, bytes: Vec<u8>) -> io::Result<String> {
///         let name = std::fs::read_dir(self.0.path())?.count().to_string();
///         std::fs::write(self.0.path().join(&name), bytes)?;
///         Ok(name)
///     }
///     fn put_file(&self, file: &Path) -> io::Result<String> {
///         self.put(std::fs::read(file)?)
///     }
/// }
/// struct Go;
/// impl Control for Go {
///     fn cancelled(&self) -> bool {
///         false
///     }
/// }
///
/// let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/smallmodel");
/// let file = |name: &str| FileRef {
///     name: name.to_owned(),
///     digest: data.join(name).display().to_string(),
///     size: std::fs::metadata(data.join(name)).unwrap().len(),
/// };
/// let job = JobInput {
///     model: ModelInput::Onnx { model: file("model.onnx"), external_data: vec![] },
///     calibration: vec![file("calib/000.safetensors")],
///     evaluation: vec![],
///     settings: Settings::default(),
///     kind: JobKind::Quantize,
///     limits: InputLimits::DEFAULT,
///     digest: "an example".to_owned(),
/// };
/// let blobs = Files(tempfile::tempdir()?);
/// let files = dual16_quant::run(&job, &blobs, &Go, &mut |_| {}).unwrap();
/// assert!(files.iter().any(|file| file.name == "converted.safetensors"));
/// # io::Result::Ok(())
/// ```
pub fn run(
    job: &JobInput,
    blobs: &dyn Blobs,
    control: &dyn Control,
    tell: &mut dyn FnMut(Event),
) -> Result<Vec<FileRef>> {
    let executor = Executor::new(MemoryBudget::new(None));
    executor.run_job(job, blobs, control, &mut |_, _| {}, tell)
}

impl Executor {
    /// [`run()`] on an executor that may know the job's model already. `arrange` is told the name of each stage
    /// before it runs, and may change the order of its maps; no order changes what the job leaves.
    ///
    /// # Errors
    /// As of [`run()`].
    pub fn run_job(
        &self,
        job: &JobInput,
        blobs: &dyn Blobs,
        control: &dyn Control,
        arrange: &mut dyn FnMut(&str, &mut [usize]),
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<FileRef>> {
        let mut stage = QueuedStage {
            name: FIRST_STAGE.to_owned(),
            maps: Vec::new(),
            reduce: Vec::new(),
            seconds: 0,
        };
        loop {
            let mut task = |part, payload: &[u8], inputs: &[Vec<u8>]| -> Result<TaskOutput> {
                let task = TaskInput {
                    job,
                    stage: &stage.name,
                    part,
                    payload,
                    inputs,
                };
                let mut output = self.run(&task, blobs, control)?;
                output.events.drain(..).for_each(&mut *tell);
                Ok(output)
            };
            let mut order: Vec<usize> = (0..stage.maps.len()).collect();
            arrange(&stage.name, &mut order);
            let mut results = vec![Vec::new(); stage.maps.len()];
            for index in order {
                results[index] = task(Part::Map, &stage.maps[index], &[])?.result;
            }
            match task(Part::Reduce, &stage.reduce, &results)?.next {
                Some(Next::Stage(next)) => stage = next,
                Some(Next::Finish(files)) => return Ok(files),
                None => return Ok(Vec::new()),
            }
        }
    }
}
