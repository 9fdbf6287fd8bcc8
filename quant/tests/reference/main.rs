//! Float execution against onnxruntime, on the operator tests of the onnx package and on random small
//! graphs: the same numbers, or a refusal that names the node or the operator. Never other numbers.
//! Each rewrite of the canonical form must have applied in a case that is equal.
//!
//! DUAL16_REFERENCE_SAMPLE sets how many operator tests are run (0: all of them; of the graphs, which
//! are small, it is four times as many), PROPTEST_RNG_SEED which, DUAL16_REFERENCE_ONLY names a single
//! one, and DUAL16_REFERENCE_KEEP a folder that keeps them. What became of each is in `reference.tsv`
//! in cargo's temporary folder.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking and shows what it measured"
)]

mod canonical;
mod case;
mod compare;
mod generator;
mod outcome;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use case::Case;
use dual16_quant::canonical::rewrite_names;
use outcome::{Class, Outcome};

/// Of a hundred cases of a group, how many must give the same numbers at least: what is supported
/// must not shrink unseen.
const LEAST_EQUAL: [(&str, usize); 2] = [("node", 70), ("random", 90)];

#[test]
fn the_same_numbers_as_onnxruntime_or_a_refusal_that_names_the_node() {
    let folder = generator::generate();
    let cases = Case::all(folder.path());
    let outcomes = judge(&cases);
    outcome::write_table(&outcomes);

    let mut wrong = Vec::new();
    for (group, least) in LEAST_EQUAL {
        let of_group = || outcomes.iter().filter(|one| one.group() == group);
        let (equal, all) = (
            of_group().filter(|one| one.class == Class::Equal).count(),
            of_group().count(),
        );
        eprintln!("{group}: {}", outcome::counted(of_group()));
        if equal * 100 < least * all {
            wrong.push(format!(
                "{group}: only {equal} of {all} cases are equal, less than {least} %"
            ));
        }
    }
    if std::env::var_os("DUAL16_REFERENCE_ONLY").is_none() {
        let applied = |name: &&str| outcomes.iter().any(|one| one.rewrites.contains(name));
        let never = rewrite_names().filter(|name| !applied(name));
        wrong.extend(never.map(|name| {
            format!("canonical/{name}: it applied in no case that is equal; draw one that it does")
        }));
    }
    wrong.extend(canonical::check(folder.path(), &cases));
    let failed = outcomes.iter().filter(|one| one.class.fails());
    wrong.extend(failed.map(Outcome::to_string));
    assert!(
        wrong.is_empty(),
        "{} findings:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What becomes of each case, in their order, on as many threads as there are processors.
fn judge(cases: &[Case]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut judged = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match cases.get(index) {
                Some(case) => judged.push((index, outcome::of(case))),
                None => return judged,
            }
        }
    };
    let mut judged = thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().flat_map(|one| one.join().unwrap());
        joined.collect::<Vec<_>>()
    });
    judged.sort_by_key(|(index, _)| *index);
    judged.into_iter().map(|(_, outcome)| outcome).collect()
}
