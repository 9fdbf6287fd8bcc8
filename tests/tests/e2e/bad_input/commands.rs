//! Runs the cases, a few at a time, and says what is wrong with how they failed.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use dual16_tests::{
    Dual16, Finished, Results,
    data::{Copy, repository, smallmodel},
    results::names_in,
};

use super::{Case, usage::Usage};

/// Commands that run at a time.
const THREADS: usize = 4;

/// What is wrong with each case, its name before it.
pub(super) fn check<C: Sync + Named>(
    cases: &[C],
    run: impl Fn(&C) -> Vec<String> + Sync,
) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let problems = run(case);
                    let named = problems
                        .iter()
                        .map(|text| format!("{}: {text}", case.name()));
                    found.lock().unwrap().extend(named);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// What is called something in messages.
pub(super) trait Named {
    fn name(&self) -> &str;
}

impl Named for &Case {
    fn name(&self) -> &str {
        self.name
    }
}

impl Named for Usage {
    fn name(&self) -> &str {
        self.name
    }
}

/// Runs a case on the server at `url`.
pub(super) fn on(url: &str, case: &Case) -> Vec<String> {
    quantize(case, |command| command.args(["--server", url]))
}

/// Runs a case on this machine.
pub(super) fn local(case: &Case) -> Vec<String> {
    quantize(case, |command| command)
}

fn quantize(case: &Case, place: impl FnOnce(Dual16) -> Dual16) -> Vec<String> {
    let copy = Copy::of(&smallmodel(), 2);
    (case.spoil)(&copy);
    let out = Results::new();
    let command = Dual16::quantize(copy.path())
        .args(case.arguments)
        .out(&out.path());
    watched(place(command), case.code, case.says, &copy, &out)
}

/// Runs a command line as it was typed.
pub(super) fn typed(url: &str, usage: &Usage) -> Vec<String> {
    let copy = Copy::of(&smallmodel(), 1);
    fs::write(copy.file("dual16.toml"), usage.config).unwrap();
    let out = Results::new();
    let (copied, to) = (copy.path().to_str().unwrap(), out.path());
    let filled = usage.command.iter().map(|argument| {
        argument
            .replace("{copy}", copied)
            .replace("{out}", to.to_str().unwrap())
            .replace("{server}", url)
    });
    watched(Dual16::new(filled), usage.code, usage.says, &copy, &out)
}

/// Runs a command in a temporary folder of its own, in which nothing may stay, nor in the folder of
/// its inputs.
fn watched(command: Dual16, code: i32, says: &[&str], copy: &Copy, out: &Results) -> Vec<String> {
    let before = everything(copy.path());
    let temporary = tempfile::tempdir().unwrap();
    let run = command
        .env("TMPDIR", temporary.path())
        .within(&repository())
        .run();
    let mut problems = problems(&run, code, says, out);
    let left = names_in(temporary.path());
    if !left.is_empty() {
        problems.push(format!("left {left:?} in the temporary folder; {run}"));
    }
    if everything(copy.path()) != before {
        problems.push(format!("changed the folder of its inputs; {run}"));
    }
    problems
}

fn everything(folder: &Path) -> Vec<String> {
    let mut names = names_in(folder);
    names.extend(names_in(&folder.join("calib")));
    names
}

/// What is wrong with how a command failed; nothing, if it is as it should be.
pub(super) fn problems(run: &Finished, code: i32, says: &[&str], out: &Results) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            problems.push(format!("{what}; {run}"));
        }
    };
    expect(
        run.code() == code,
        format!("ended with {}, not {code}", run.code()),
    );
    for part in says {
        expect(run.stderr.contains(part), format!("does not say {part:?}"));
    }
    expect(!run.stderr.contains("panicked"), "panicked".to_owned());
    expect(run.stdout.is_empty(), "wrote to stdout".to_owned());
    let left = out.names();
    expect(left.is_empty(), format!("left {left:?} behind"));
    problems
}
