//! State of a local job that was begun a moment ago. To wait for the disk at each step takes longer than a small
//! job, and all that would be lost without is those moments: so at first nothing waits. A note beside the state
//! says so, and names the run of the system that it is of. In another one, after a loss of power perhaps, nobody
//! knows how much of such state is there, and it is begun again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use dual16_server::durability::Durability;

use super::{SERVER, State, WORKER};

/// The note.
const NOTE: &str = "unsettled";
/// What Linux calls the run of the system, since it was started.
const RUN: &str = "/proc/sys/kernel/random/boot_id";

/// State that nobody waits for yet.
pub(super) struct Unsettled {
    data: PathBuf,
    durability: Durability,
}

impl Unsettled {
    /// State in `data` as it is now: taken away where it cannot be trusted, and unsettled where it may be.
    ///
    /// # Errors
    /// The folder cannot be changed.
    pub(super) fn begin(data: &Path, state: State) -> io::Result<Option<Self>> {
        let run = fs::read_to_string(RUN).ok();
        Self::begin_in(run.as_deref(), data, state)
    }

    /// The same in a run of the system; `None` where it has no name.
    fn begin_in(run: Option<&str>, data: &Path, state: State) -> io::Result<Option<Self>> {
        let note = data.join(NOTE);
        let noted = match fs::read_to_string(&note) {
            Ok(noted) => Some(noted),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if noted.is_some() && noted.as_deref() != run {
            tracing::warn!(
                data = %data.display(),
                "the system was started again just after this state was begun; it begins again"
            );
            for folder in [SERVER, WORKER].map(|name| data.join(name)) {
                if folder.exists() {
                    fs::remove_dir_all(folder)?;
                }
            }
            fs::remove_file(&note)?;
            return Self::begin_in(run, data, state);
        }
        let unsettled = Self {
            data: data.to_owned(),
            durability: Durability::unsettled(),
        };
        match (run, state) {
            (Some(_), State::OfOneCommand) if noted.is_some() => Ok(Some(unsettled)),
            (Some(run), State::OfOneCommand) if !data.join(SERVER).exists() => {
                // It must be there before anything that it is about.
                fs::write(&note, run)?;
                File::open(&note)?.sync_all()?;
                File::open(data)?.sync_all()?;
                Ok(Some(unsettled))
            }
            _ => {
                if noted.is_some() {
                    unsettled.settle()?;
                }
                Ok(None)
            }
        }
    }

    /// What the server is to wait for.
    pub(super) fn durability(&self) -> Durability {
        self.durability.clone()
    }

    /// Has the state outlive a loss of power from then on.
    pub(super) async fn settle_after(self, time: Duration) {
        tokio::time::sleep(time).await;
        // A note that stays costs a job that loses its power what it has done, and nothing else.
        let settled = tokio::task::spawn_blocking(move || self.settle()).await;
        if let Ok(Err(error)) = settled {
            tracing::warn!(%error, "the state of the job may not outlive a loss of power");
        }
    }

    fn settle(&self) -> io::Result<()> {
        self.durability.settle(&self.data)?;
        fs::remove_file(self.data.join(NOTE))?;
        File::open(&self.data)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the folder has after it was opened as one of a command in this run.
    fn opened(data: &Path, run: &str, state: State) -> (bool, bool, bool) {
        let unsettled = Unsettled::begin_in(Some(run), data, state).unwrap();
        let (note, server) = (data.join(NOTE).exists(), data.join(SERVER).exists());
        fs::create_dir_all(data.join(SERVER)).unwrap();
        (unsettled.is_some(), note, server)
    }

    #[test]
    fn what_was_not_settled_goes_on_in_the_same_run_of_the_system_and_begins_again_in_another() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let own = State::OfOneCommand;
        assert_eq!(opened(data, "a", own), (true, true, false), "fresh");
        assert_eq!(opened(data, "a", own), (true, true, true), "interrupted");
        assert_eq!(
            opened(data, "b", own),
            (true, true, false),
            "the power was lost"
        );
        assert_eq!(
            opened(data, "c", State::Kept),
            (false, false, false),
            "and is kept now"
        );
        assert_eq!(
            opened(data, "d", own),
            (false, false, true),
            "what was settled stays so"
        );
    }

    #[test]
    fn state_that_is_to_be_kept_is_settled_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(opened(data, "a", State::OfOneCommand), (true, true, false));
        assert_eq!(opened(data, "a", State::Kept), (false, false, true));
        assert_eq!(opened(data, "b", State::OfOneCommand), (false, false, true));
    }

    #[tokio::test]
    async fn after_a_while_it_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Unsettled::begin_in(Some("a"), folder.path(), State::OfOneCommand);
        begun.unwrap().unwrap().settle_after(Duration::ZERO).await;
        assert!(!folder.path().join(NOTE).exists());
    }

    #[test]
    fn without_a_name_of_the_run_everything_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Unsettled::begin_in(None, folder.path(), State::OfOneCommand).unwrap();
        assert!(begun.is_none() && !folder.path().join(NOTE).exists());
    }
}
