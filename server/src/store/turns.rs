//! Whose turn it is: which priority, and within it which owner. The same in every store; each server of a
//! database has its own.
//!
//! The highest priority goes first, but no lower one waits for ever: once [`PATIENCE`] tasks of higher ones
//! were leased while tasks of it were queued, it has the next one. Owners have turns: each task that is leased
//! sends its owner to the end of the line, so whoever queues a thousand jobs keeps nobody else waiting.

use crate::{job::Priority, principal::Principal};

/// Tasks of higher priorities that are leased before one of a lower priority is.
const PATIENCE: u32 = 9;

#[derive(Clone, Debug, Default)]
pub(super) struct Turns([Line; Priority::ALL.len()]);

/// One priority.
#[derive(Clone, Debug, Default)]
struct Line {
    /// Whose task was leased last.
    served: Option<Principal>,
    /// Tasks of higher priorities that were leased since, while tasks of this one were queued.
    passed_by: u32,
}

impl Turns {
    /// Every priority, in the order in which they are looked at for the next task.
    pub(super) fn order(&self) -> [Priority; Priority::ALL.len()] {
        let mut order = Priority::ALL;
        order.sort_by_key(|priority| {
            let place = *priority as usize;
            match self.0.get(place) {
                // Of those that waited long enough the lowest: it is passed by most often.
                Some(line) if line.passed_by >= PATIENCE => place,
                _ => 2 * Priority::ALL.len() - place,
            }
        });
        order
    }

    /// Whose task of a priority was leased last: the next by name is next.
    pub(super) fn served(&self, priority: Priority) -> Option<&Principal> {
        self.0.get(priority as usize)?.served.as_ref()
    }

    /// A task is leased, while tasks of the priorities that `wait` are queued.
    pub(super) fn leased(
        &mut self,
        priority: Priority,
        owner: &Principal,
        wait: impl Fn(Priority) -> bool,
    ) {
        for (line, of) in self.0.iter_mut().zip(Priority::ALL) {
            if of == priority {
                line.served = Some(owner.clone());
                line.passed_by = 0;
            } else if of < priority && wait(of) {
                line.passed_by = line.passed_by.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many tasks, while those of the priorities in `queued` never run out.
    fn leased(turns: &mut Turns, tasks: usize, queued: &[Priority]) -> Vec<Priority> {
        let mut leased = Vec::new();
        for _ in 0..tasks {
            let next = turns.order().into_iter().find(|next| queued.contains(next));
            let next = next.unwrap();
            turns.leased(next, &Principal::anonymous(), |other| {
                queued.contains(&other)
            });
            leased.push(next);
        }
        leased
    }

    #[test]
    fn the_highest_goes_first_and_of_ten_tasks_one_is_of_a_lower_priority() {
        let mut turns = Turns::default();
        let first = leased(&mut turns, 9, &Priority::ALL);
        assert_eq!(first, [Priority::High; 9]);
        let lower = leased(&mut turns, 2, &Priority::ALL);
        assert_eq!(lower, [Priority::Low, Priority::Normal]);
        let all = leased(&mut turns, 1000, &Priority::ALL);
        for priority in Priority::ALL {
            let longest = all.split(|of| *of == priority).map(<[_]>::len).max();
            let bound = match priority {
                Priority::High => 2,
                // Those of the lowest priority go between.
                Priority::Normal => PATIENCE as usize + 2,
                Priority::Low => PATIENCE as usize,
            };
            assert!(longest <= Some(bound), "{priority:?}: {longest:?}");
        }
    }

    #[test]
    fn who_has_nothing_queued_gathers_no_claim() {
        let mut turns = Turns::default();
        leased(&mut turns, 100, &[Priority::High]);
        let then = leased(&mut turns, 9, &[Priority::Low, Priority::High]);
        assert_eq!(then, [Priority::High; 9]);
    }
}
