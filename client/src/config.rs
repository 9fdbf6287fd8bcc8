//! Merges the command line, the environment, the file `--config` names and the defaults, in this
//! order of precedence.
//!
//! The file's values are handed to clap as the arguments' defaults, so there is one definition of
//! every setting, one parser of its values, and the precedence is clap's own. Each value is parsed
//! on its own first, so that an error names the file and the key. Keys are the long flags, with '-'
//! or '_'; paths are relative to where the command runs, exactly as they are on the command line.

mod names;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command, FromArgMatches as _, ValueEnum as _, builder::Resettable};

pub use self::names::unknown_variables;
use self::names::{did_you_mean, nearest};
use crate::cli::{self, Cli, OutputFormat};

/// A command line that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line or the environment; also `--help` and `--version`, which end a run as well.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The file could not be read.
    #[error("cannot read the configuration {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key that is no flag.
    #[error("{}: unknown key {key:?}{}; keys here are {}", .path.display(), did_you_mean(.near.as_deref()), .known.join(", "))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The key that may have been meant.
        near: Option<String>,
        /// The keys that this command reads, sorted.
        known: Vec<String>,
    },
    /// A value that the flag would not take either.
    #[error("{}: {key}: {message}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Parses `arguments` (the program's name first) together with the environment and the file that
/// `--config` or DUAL16_CONFIG names.
///
/// # Errors
/// [`ConfigError`], naming the flag, or the file and the key.
pub fn parse(arguments: &[OsString]) -> Result<Cli, ConfigError> {
    let mut command = hide_environment(cli::command());
    if let Some(path) = flag_value(arguments, "--config", "DUAL16_CONFIG").map(PathBuf::from) {
        let values = read_file(&path, &command, subcommand_of(arguments, &command))?;
        command = with_defaults(command, &values);
    }
    Ok(Cli::from_arg_matches(
        &command.try_get_matches_from(arguments)?,
    )?)
}

/// Help names the variables; what they hold now is nobody's business in a pasted help text.
fn hide_environment(command: Command) -> Command {
    let hide = |argument: Arg| argument.hide_env_values(true);
    command
        .mut_args(hide)
        .mut_subcommands(|subcommand| subcommand.mut_args(hide))
}

/// What stdout was to carry, where the command line cannot be parsed.
pub fn output_of(arguments: &[OsString]) -> OutputFormat {
    flag_value(arguments, "--output", "DUAL16_OUTPUT")
        .and_then(|value| OutputFormat::from_str(value.to_str()?, false).ok())
        .unwrap_or(OutputFormat::Table)
}

/// A flag that is needed before clap can run, so it is looked for by hand.
fn flag_value(arguments: &[OsString], flag: &str, variable: &str) -> Option<OsString> {
    let mut rest = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        if argument == flag {
            return rest.next().cloned();
        }
        let joined = argument.to_str().and_then(|text| text.strip_prefix(flag));
        if let Some(value) = joined.and_then(|text| text.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// The command that is going to run, as far as can be told of a line that may be wrong.
fn subcommand_of<'a>(arguments: &[OsString], command: &'a Command) -> Option<&'a Command> {
    let lenient = command.clone().ignore_errors(true);
    let matches = lenient.try_get_matches_from(arguments).ok()?;
    command.find_subcommand(matches.subcommand_name()?)
}

/// Values by argument id, each already known to parse.
type Values = BTreeMap<String, Vec<String>>;

fn read_file(
    path: &Path,
    command: &Command,
    subcommand: Option<&Command>,
) -> Result<Values, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table: toml::Table =
        text.parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax {
                path: path.to_owned(),
                message: error.to_string().trim_end().to_owned(),
            })?;
    // One file serves all commands, and an error lists what this one reads.
    let known = known_arguments(command);
    let mut values = Values::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let argument = known.get(&name).ok_or_else(|| ConfigError::UnknownKey {
            path: path.to_owned(),
            key: key.clone(),
            near: nearest(&name, known.keys().map(String::as_str)).map(str::to_owned),
            known: read_by(command, subcommand).into_keys().collect(),
        })?;
        let texts = texts(&value)
            .and_then(|texts| check(argument, texts))
            .map_err(|message| ConfigError::Value {
                path: path.to_owned(),
                key,
                message,
            })?;
        values.insert(argument.get_id().to_string(), texts);
    }
    Ok(values)
}

/// Every settable argument of every command, by its key.
fn known_arguments(command: &Command) -> BTreeMap<String, &Arg> {
    by_key(std::iter::once(command).chain(command.get_subcommands()))
}

/// Those that one command has, beside those of all.
fn read_by<'a>(command: &'a Command, subcommand: Option<&'a Command>) -> BTreeMap<String, &'a Arg> {
    match subcommand {
        Some(subcommand) => by_key([command, subcommand].into_iter()),
        None => known_arguments(command),
    }
}

fn by_key<'a>(commands: impl Iterator<Item = &'a Command>) -> BTreeMap<String, &'a Arg> {
    commands
        .flat_map(Command::get_arguments)
        .filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version" | "config"))
        .map(|argument| {
            let name = argument.get_long().unwrap_or(argument.get_id().as_str());
            (name.to_owned(), argument)
        })
        .collect()
}

fn texts(value: &toml::Value) -> Result<Vec<String>, String> {
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        other => Err(format!(
            "a {} cannot be a value; write a string, a number, true or false, or an array of them",
            other.type_str()
        )),
    };
    match value {
        toml::Value::Array(items) => items.iter().map(scalar).collect(),
        single => Ok(vec![scalar(single)?]),
    }
}

/// Has clap parse the values as if they had been typed.
fn check(argument: &Arg, texts: Vec<String>) -> Result<Vec<String>, String> {
    let repeatable = matches!(argument.get_action(), ArgAction::Append);
    if texts.len() != 1 && !repeatable {
        return Err(format!("takes one value, not {}", texts.len()));
    }
    let switch = matches!(argument.get_action(), ArgAction::SetTrue);
    if switch && !matches!(texts.as_slice(), [text] if text == "true" || text == "false") {
        return Err("takes true or false".to_owned());
    }
    if switch {
        return Ok(texts);
    }
    let mut alone = Command::new("dual16")
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(
            argument
                .clone()
                .long("value")
                .required(false)
                .env(Resettable::Reset)
                .global(false),
        );
    let typed = texts.iter().map(|text| format!("--value={text}"));
    match alone.try_get_matches_from_mut(typed) {
        Ok(_) => Ok(texts),
        Err(error) => Err(reason(&error)),
    }
}

/// What is wrong, without the usage that would follow on a terminal.
fn reason(error: &clap::Error) -> String {
    use std::error::Error as _;
    if let Some(source) = error.source() {
        return source.to_string();
    }
    let text = error.to_string();
    let mut lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"));
    let first = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    let first = first.split(" for '").next().unwrap_or(first);
    let choices = lines.find(|line| line.starts_with("[possible values"));
    [Some(first), choices]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

fn with_defaults(command: Command, values: &Values) -> Command {
    let set = |argument: Arg| match values.get(argument.get_id().as_str()) {
        Some(values) => argument.required(false).default_values(values.clone()),
        None => argument,
    };
    command
        .mut_args(set)
        .mut_subcommands(|subcommand| subcommand.mut_args(set))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::CommandFactory as _;
    use dual16_proto::v1::layer_setting::Value;

    use super::*;
    use crate::cli::{Command as Verb, Observer, OutputFormat, Template};

    fn parse_with(file: &str, arguments: &[&str]) -> Result<Cli, ConfigError> {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        config.write_all(file.as_bytes()).unwrap();
        let mut all: Vec<OsString> = vec!["dual16".into()];
        all.extend(arguments.iter().map(OsString::from));
        all.extend(["--config".into(), config.path().into()]);
        parse(&all)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "observer = \"mse\"\ntemplate = \"a8w8\"\noutput = \"json\"\nsave_outputs = true\n\
                    linear = [\"linear2=split\", \"head=auto\"]\nmodel = \"m.onnx\"\nworkers = 3\n\
                    min-layer-sqnr = 25.5\n";
        let cli = parse_with(file, &["quantize", "--template", "a16w16"]).unwrap();

        assert_eq!(
            (cli.global.output, cli.global.workers),
            (OutputFormat::Json, Some(3))
        );
        let Verb::Quantize(command) = cli.command else {
            panic!("{:?}", cli.command)
        };
        let quantize = command.quantize;
        assert_eq!(quantize.settings.template, Template::A16w16);
        assert_eq!(quantize.settings.observer, Observer::Mse);
        assert!(quantize.settings.save_outputs && !quantize.settings.power_of_two);
        assert_eq!(quantize.settings.min_layer_sqnr, 25.5);
        assert_eq!(quantize.inputs.model, Some("m.onnx".into()));
        let ways: Vec<_> = quantize
            .settings
            .linear
            .iter()
            .map(|s| s.value.clone())
            .collect();
        let way = |name: &str| Some(Value::Way(name.to_owned()));
        assert_eq!(ways, [way("split"), way("auto")]);
    }

    #[test]
    fn a_repeated_flag_replaces_the_list_of_the_file() {
        let file = "linear = [\"a=split\", \"b=split\"]";
        let cli = parse_with(file, &["quantize", "m.onnx", "--linear", "c=auto"]).unwrap();
        let Verb::Quantize(command) = cli.command else {
            panic!("{:?}", cli.command)
        };
        let quantize = command.quantize;
        assert_eq!(quantize.settings.linear.len(), 1);
        assert_eq!(quantize.settings.linear[0].name, "c");
    }

    #[test]
    fn an_unknown_key_is_told_the_nearest_and_those_of_its_command() {
        let error = parse_with("tempalte = \"a8w8\"", &["quantize", "m.onnx"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("unknown key \"tempalte\", is it template?"),
            "{error}"
        );
        for known in ["observer", "fixed-scale", "server", "model"] {
            assert!(error.contains(known), "{error}");
        }
        for other in ["job,", "limit", "state", "exact"] {
            assert!(!error.contains(other), "{other}: {error}");
        }
    }

    #[test]
    fn what_stdout_carries_is_known_even_of_a_wrong_line() {
        let line = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let json = line("dual16 quantize --linear x --output json");
        assert_eq!(output_of(&json), OutputFormat::Json);
        assert_eq!(
            output_of(&line("dual16 --output=jsonl nope")),
            OutputFormat::Jsonl
        );
        assert_eq!(
            output_of(&line("dual16 --output nope")),
            OutputFormat::Table
        );
    }

    #[test]
    fn a_bad_value_names_the_key_and_what_is_right() {
        for (file, expected) in [
            (
                "observer = \"max\"",
                "observer: invalid value 'max' [possible values: minmax, mse, percentile, kl]",
            ),
            (
                "fixed-scale = [\"x=0\"]",
                "fixed-scale: the scale of \"x\" is 0; it must be finite and > 0",
            ),
            (
                "save-outputs = \"perhaps\"",
                "save-outputs: takes true or false",
            ),
            (
                "template = [\"a8w8\", \"a16w8\"]",
                "template: takes one value, not 2",
            ),
            ("workers = 0", "workers: 0 is not in 1..=1024"),
            (
                "linear = { a = \"split\" }",
                "linear: a table cannot be a value",
            ),
        ] {
            let error = parse_with(file, &["quantize", "m.onnx"])
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }

    #[test]
    fn keys_of_another_command_are_no_error() {
        let cli = parse_with("calib = \"calib\"", &["jobs"]).unwrap();
        assert!(matches!(cli.command, Verb::Jobs(_)));
    }

    #[test]
    fn broken_toml_and_missing_files_are_told() {
        let error = parse_with("observer = ", &["info"]).unwrap_err();
        assert!(matches!(error, ConfigError::Syntax { .. }), "{error}");
        let missing = ["dual16", "info", "--config=nowhere.toml"].map(OsString::from);
        let error = parse(&missing).unwrap_err().to_string();
        assert!(error.contains("nowhere.toml"), "{error}");
    }
}
