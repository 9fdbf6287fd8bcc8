//! Whether the records of a job belong together: every one that its header counts is there and can be
//! read, and every task is in exactly one place. The database finds bytes that were changed; this
//! finds what is missing, or older than the rest.

use std::collections::BTreeMap;

use dual16_proto::v1;
use prost::Message as _;

use super::{
    Records, StoreError,
    keys::{self, Table},
    records::reader::{Reader, decode_json},
};
use crate::job::{Job, JobId, Stage, Task, TaskId, TaskState};

/// What is wrong with the records of one job; nothing if they are sound. An error is one of the
/// engine itself.
pub(super) fn job<R: Records>(
    reader: &Reader<'_, R>,
    id: JobId,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let Some(header) = reader.records.get(&keys::job(id))? else {
        return Ok(vec!["its header is missing".into()]);
    };
    let job: Job = match decode_json("header", &header) {
        Ok(job) => job,
        Err(error) => return Ok(vec![error.to_string()]),
    };
    if job.id != id {
        found.push(format!("its header is that of {}", job.id));
    }
    if let Err(error) = reader.spec(id) {
        found.push(format!("its spec cannot be read: {error}"));
    }
    events(reader, &job, &mut found)?;
    for (number, stage) in (0..).zip(&job.stages) {
        tasks(reader, &job, number, stage, &mut found)?;
    }
    blobs(reader, &job, &mut found)?;
    Ok(found)
}

fn events<R: Records>(
    reader: &Reader<'_, R>,
    job: &Job,
    found: &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut expected = 1;
    reader.for_each(Table::Event.of_job(job.id), |_, value| {
        let event = v1::JobEvent::decode(value.as_slice());
        if event.is_ok_and(|event| event.sequence == expected) {
            expected += 1;
        }
        Ok(())
    })?;
    let (read, last) = (expected - 1, job.last_sequence);
    if read != last {
        found.push(format!("of its {last} events, {read} follow each other"));
    }
    Ok(())
}

fn tasks<R: Records>(
    reader: &Reader<'_, R>,
    job: &Job,
    number: u32,
    stage: &Stage,
    found: &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut tasks: BTreeMap<TaskId, Task> = BTreeMap::new();
    reader.for_each(Table::Task.of_stage(job.id, number), |key, value| {
        let named = keys::parse_task(&key).map(|name| name.task);
        match decode_json::<Task>("task", &value) {
            Ok(task) if Some(task.id) == named => drop(tasks.insert(task.id, task)),
            Ok(task) => found.push(format!(
                "the record of {} is another's",
                job.task_name(task.id)
            )),
            Err(error) => found.push(format!("stage {}: {error}", stage.name)),
        }
        Ok(())
    })?;
    if tasks.len() as u64 != u64::from(stage.maps) + 1 {
        let (is, should) = (tasks.len(), stage.tasks());
        found.push(format!(
            "stage {} has {is} of its {should} tasks",
            stage.name
        ));
    }
    let done = tasks.values().filter(|task| task.is_done()).count();
    if done != stage.done() as usize {
        let counted = stage.done();
        found.push(format!(
            "stage {}: {done} tasks are done, not {counted}",
            stage.name
        ));
    }
    for task in tasks.values() {
        let name = job.task_name(task.id);
        if reader.payload(name).is_err() {
            found.push(format!("the payload of {name} cannot be read"));
        }
        if task.is_done() && reader.records.get(&Table::Result.task(name))?.is_none() {
            found.push(format!("the result of {name} is missing"));
        }
        let is_in =
            |table: Table| Ok::<_, StoreError>(reader.records.get(&table.task(name))?.is_some());
        let places = [
            is_in(Table::Queue)?,
            is_in(Table::Waiting)?,
            is_in(Table::Lease)?,
        ];
        let maps_are_done = stage.maps_are_done() || task.id.slot != crate::job::Slot::Reduce;
        let open = job.phase.ended().is_none();
        let expected = match task.state {
            TaskState::Pending => [open && maps_are_done, false, false],
            // Until its time is noticed; then it is queued.
            TaskState::Waiting { .. } => [open && places[0], open && !places[0], false],
            TaskState::Leased(_) => [false, false, open],
            TaskState::Done(_) | TaskState::Failed => [false; 3],
        };
        if places != expected {
            found.push(format!("{name} is not where its state says"));
        }
    }
    Ok(())
}

fn blobs<R: Records>(
    reader: &Reader<'_, R>,
    job: &Job,
    found: &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut bytes = 0_u64;
    for (digest, size) in reader.blobs(job.id)? {
        bytes = bytes.saturating_add(size);
        if reader.records.get(&keys::keeper(digest, job.id))?.is_none() {
            found.push(format!("blob {digest} is not marked as kept"));
        }
    }
    if bytes != job.bytes {
        let counted = job.bytes;
        found.push(format!("its blobs have {bytes} bytes, not {counted}"));
    }
    Ok(())
}
