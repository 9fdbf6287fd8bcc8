//! What manifests and compose file tell the programs: every program, flag and variable exists.

use std::{collections::BTreeSet, process::Command};

use dual16_tests::programs::program;

use crate::rendered::{all, container, environment, name, shapes, workloads};

/// What the programs or their libraries read that is no flag: where temporary files go, and how the object store is
/// reached.
const OTHERS: [&str; 6] = [
    "TMPDIR",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_ENDPOINT",
    "AWS_ALLOW_HTTP",
];
/// What a program's help says of it.
struct Known {
    help: String,
    variables: BTreeSet<String>,
}

impl Known {
    fn of(name: &str) -> Self {
        let output = Command::new(program(name)).arg("--help").output().unwrap();
        assert!(output.status.success(), "{name}");
        let help = String::from_utf8(output.stdout).unwrap();
        let variables = help.split("[env: ").skip(1);
        let variables = variables.filter_map(|rest| rest.split(['=', ']']).next());
        Self {
            variables: variables.map(str::to_owned).collect(),
            help,
        }
    }

    fn reads(&self, variable: &str) -> bool {
        self.variables.contains(variable) || OTHERS.contains(&variable)
    }
}

/// Refuses a variable that the program does not read.
pub(crate) fn check(program: &str, variables: &[String], at: &str) {
    let known = Known::of(program);
    for variable in variables {
        assert!(
            known.reads(variable),
            "{at}: {program} does not read {variable}"
        );
    }
}

#[test]
fn every_program_flag_and_variable_exists() {
    for (shape, objects) in shapes() {
        for workload in workloads(objects) {
            let container = container(workload);
            let command: Vec<_> = all(&container["command"])
                .chain(all(&container["args"]))
                .map(|part| part.as_str().unwrap())
                .collect();
            assert_eq!(command[0], name(workload), "{shape}");
            let known = Known::of(command[0]);
            for flag in command.iter().filter(|part| part.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let exists = known.help.contains(&format!("{flag} "));
                assert!(exists, "{shape}: {} has no {flag}", command[0]);
            }
            let variables: Vec<_> = environment(objects, workload).into_keys().collect();
            assert!(variables.len() > 5, "{shape}: {variables:?}");
            check(command[0], &variables, shape);
        }
    }
}
