//! A job by a beginning of its id.

use crate::{
    api::{Client, JobName},
    error::Error,
};

/// Candidates that an error names.
const NAMED: usize = 5;

/// The one job whose id is or begins with that of `name`. A whole id is taken as it is, so that only a
/// beginning costs a list of all jobs.
pub(super) async fn find(client: &Client, name: &JobName) -> Result<JobName, Error> {
    if uuid::Uuid::try_parse(name.id()).is_ok() {
        return Ok(name.clone());
    }
    let jobs = client.list_jobs(&[], usize::MAX).await?;
    let ids: Vec<JobName> = jobs
        .iter()
        .filter_map(|job| job.name.parse().ok())
        .collect();
    choose(name, ids)
}

fn choose(name: &JobName, ids: Vec<JobName>) -> Result<JobName, Error> {
    if ids.contains(name) {
        return Ok(name.clone());
    }
    let mut begun: Vec<JobName> = ids
        .into_iter()
        .filter(|job| job.id().starts_with(name.id()))
        .collect();
    match (begun.pop(), begun.len()) {
        (Some(job), 0) => Ok(job),
        (None, _) => Err(Error::usage(
            format!("{name} does not exist, nor a job whose id begins so"),
            "`dual16 jobs` lists those there are",
        )),
        (Some(last), more) => {
            begun.push(last);
            let named: Vec<_> = begun.iter().take(NAMED).map(JobName::id).collect();
            Err(Error::usage(
                format!(
                    "{} jobs begin with {}: {}",
                    more + 1,
                    name.id(),
                    named.join(", ")
                ),
                "give more of the id",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_names_the_only_job_that_has_it() {
        let name = |text: &str| text.parse::<JobName>().unwrap();
        let jobs = || vec![name("01a2-1"), name("01a2-2"), name("01b3-1"), name("01a2")];
        assert_eq!(choose(&name("01b"), jobs()).unwrap(), name("01b3-1"));
        assert_eq!(
            choose(&name("01a2"), jobs()).unwrap(),
            name("01a2"),
            "a whole one wins"
        );
        let error = choose(&name("01a"), jobs()).unwrap_err().to_string();
        assert!(
            error.contains("3 jobs begin with 01a: 01a2-1, 01a2-2"),
            "{error}"
        );
        let error = choose(&name("9"), jobs()).unwrap_err();
        assert!(
            error.to_string().contains("jobs/9 does not exist"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
