//! The catalog against a plain list of jobs.

use proptest::prelude::*;

use super::*;
use crate::{digest::Digest, job::Phase};

fn job(id: u8, owner: &str, ended: Option<u64>, bytes: u64) -> Job {
    let phase = match ended {
        None => Phase::Running,
        Some(millis) => Phase::Cancelled {
            ended: Timestamp::from_millis(millis),
        },
    };
    Job {
        id: JobId::from_bytes([id; 16]),
        owner: owner.parse().unwrap(),
        priority: Priority::Normal,
        display_name: String::new(),
        spec_digest: Digest::of(b""),
        spec: None,
        request_id: None,
        created: Timestamp::MIN,
        started: None,
        retried: None,
        stages: Vec::new(),
        phase,
        bytes,
        last_sequence: 0,
        trace: None,
    }
}

fn ids(numbers: &[u8]) -> Vec<JobId> {
    let ids = numbers
        .iter()
        .map(|number| JobId::from_bytes([*number; 16]));
    ids.collect()
}

#[test]
fn what_has_ended_goes_by_age_and_by_number_oldest_end_first() {
    let mut catalog = Catalog::default();
    for (id, ended) in [(1, Some(300)), (2, Some(100)), (3, None), (4, Some(200))] {
        catalog.put(&job(id, "ann", ended, 0));
    }
    let expired = |max_jobs, old: Option<u64>, limit| {
        catalog.expired(max_jobs, old.map(Timestamp::from_millis), limit)
    };
    assert_eq!(catalog.oldest_end(), Some(Timestamp::from_millis(100)));
    assert_eq!(expired(None, None, 9), []);
    assert_eq!(expired(None, Some(200), 9), ids(&[2, 4]));
    assert_eq!(expired(Some(3), None, 9), ids(&[2]));
    // Jobs that are still to be worked on never go, however many there are.
    assert_eq!(expired(Some(0), None, 9), ids(&[2, 4, 1]));
    assert_eq!(expired(Some(0), None, 2), ids(&[2, 4]));
}

proptest! {
    #[test]
    fn lists_and_usage_are_those_of_a_plain_search(
        changes in prop::collection::vec((0u8..12, 0usize..3, prop::option::of(1u64..9), 0u64..50, 0u8..8), 0..60),
        before in prop::option::of(0u8..14),
        limit in 1usize..6,
    ) {
        const OWNERS: [&str; 3] = ["ann", "bob", "cay"];
        let mut catalog = Catalog::default();
        let mut plain: BTreeMap<JobId, Job> = BTreeMap::new();
        for (id, owner, ended, bytes, kind) in changes {
            let mut job = job(id, OWNERS[owner], ended, bytes);
            if kind == 0 {
                catalog.remove(job.id);
                plain.remove(&job.id);
                continue;
            }
            // An owner never changes.
            if let Some(known) = plain.get(&job.id) {
                job.owner = known.owner.clone();
            }
            catalog.put(&job);
            plain.insert(job.id, job);
        }
        let before = before.map(|id| JobId::from_bytes([id; 16]));
        let owners = OWNERS.map(|name| Some(name.parse::<Principal>().unwrap()));
        for owner in owners.into_iter().chain([None]) {
            let of_owner = || plain.values().filter(|job| owner.as_ref().is_none_or(|o| job.owner == *o));
            for states in [vec![], vec![State::Running], vec![State::Running, State::Cancelled]] {
                let expected: Vec<JobId> = of_owner()
                    .filter(|job| before.is_none_or(|before| job.id < before))
                    .filter(|job| states.is_empty() || states.contains(&job.phase.state()))
                    .map(|job| job.id)
                    .rev()
                    .take(limit)
                    .collect();
                prop_assert_eq!(catalog.newest(owner.as_ref(), &states, before, limit), expected);
            }
            let usage = owner.as_ref().map_or_else(|| catalog.total(), |owner| catalog.usage(owner));
            let expected = Usage {
                jobs: of_owner().count() as u64,
                open_jobs: of_owner().filter(|job| job.phase.ended().is_none()).count() as u64,
                bytes: of_owner().map(|job| job.bytes).sum(),
            };
            prop_assert_eq!(usage, expected);
        }
    }
}
