//! The commands of `dual16-server` beside serving, which is what it does without one.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Subcommand};

use crate::{
    access::{Role, secret::Token},
    config::Config,
    principal::{InvalidPrincipal, Principal},
};

/// What the program is asked to do.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Serve.
    Serve(Box<Config>),
    /// Something else, and end.
    Command(Command),
}

/// A command that needs no running server.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make tokens for --tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Read all of a data directory that no server uses, and say what is damaged
    Check(DataDirectory),
    /// Save what can be read of a damaged data directory; jobs that lost something are failed by name
    Repair(DataDirectory),
    /// Write everything of a data directory into an archive, a directory of plain files
    Export(Archive),
    /// Make a data directory of an archive
    Import(Archive),
    /// Copy all jobs from a data directory into a PostgreSQL database, or back; blobs stay where they are
    MigrateStore(MigrateStore),
}

/// The data directory that a command is about.
#[derive(Clone, Debug, Args)]
pub struct DataDirectory {
    /// The data directory; no server may be using it
    #[arg(long, env = "DUAL16_DATA", value_name = "DIR")]
    pub data: PathBuf,
}

/// A data directory and an archive.
#[derive(Clone, Debug, Args)]
pub struct Archive {
    /// The data directory; no server may be using it
    #[arg(long, env = "DUAL16_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// The archive
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
}

/// From where to where.
#[derive(Clone, Debug, Args)]
pub struct MigrateStore {
    /// Where the jobs are: a data directory, or postgres://USER:PASSWORD@HOST:PORT/DATABASE
    pub from: String,
    /// Where they go: the other of the two, without jobs
    pub to: String,
}

/// What there is to do with tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token: its secret, shown this once, and the entry for the tokens file
    New(NewToken),
}

/// Arguments of `token new`.
#[derive(Clone, Debug, Args)]
pub struct NewToken {
    /// Whose token it is; several tokens may be one principal's
    #[arg(long, value_name = "NAME", value_parser = named)]
    pub principal: Principal,
    /// What it allows (repeatable)
    #[arg(long, value_enum, required = true)]
    pub role: Vec<Role>,
    /// When it ends, such as 2027-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub expires: Option<String>,
}

fn named(name: &str) -> Result<Principal, String> {
    let principal: Principal = name
        .parse()
        .map_err(|error: InvalidPrincipal| error.to_string())?;
    if principal.is_anonymous() {
        return Err("`anonymous` is the owner of jobs that were submitted without a token".into());
    }
    Ok(principal)
}

fn time(text: &str) -> Result<String, String> {
    let time: Result<prost_types::Timestamp, _> = text.parse();
    // With an offset: without one, it would be another moment on another machine.
    let offset =
        text.ends_with(['Z', 'z']) || text.get(19..).is_some_and(|end| end.contains(['+', '-']));
    match time {
        Ok(_) if offset => Ok(text.to_owned()),
        _ => Err("must be a time with an offset, such as 2027-01-31T00:00:00Z".into()),
    }
}

/// Reads the command line and the environment.
///
/// # Errors
/// clap's own, which also end `--help` and `--version`.
pub fn parse(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Invocation, clap::Error> {
    let serving = Config::command();
    // Commands are added with a text about them, which would take the place of the program's own.
    let about = serving.get_about().cloned().unwrap_or_default();
    let command = Command::augment_subcommands(serving)
        .about(about)
        .long_about(None)
        .subcommand_required(false)
        .arg_required_else_help(false)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true);
    let matches = command.try_get_matches_from(arguments)?;
    if matches.subcommand_name().is_some() {
        return Command::from_arg_matches(&matches).map(Invocation::Command);
    }
    Config::from_arg_matches(&matches).map(|config| Invocation::Serve(Box::new(config)))
}

/// Makes a token: the secret alone on `secret`, so that it can be piped to where it is kept, and
/// all else on `notes`.
///
/// # Errors
/// The system's generator of random numbers, or one of the two outputs, failed.
pub fn new_token(
    asked: &NewToken,
    secret: &mut impl Write,
    notes: &mut impl Write,
) -> io::Result<()> {
    let token = Token::generate().map_err(io::Error::other)?;
    writeln!(secret, "{}", token.reveal())?;
    secret.flush()?;
    let roles: Vec<_> = asked.role.iter().map(|role| role.name()).collect();
    writeln!(
        notes,
        "# An entry for the file of --tokens. It holds a hash; the token itself was written to stdout, this \
         once. Keep both files to their owner (chmod 600)."
    )?;
    writeln!(notes, "[[token]]")?;
    writeln!(notes, "principal = \"{}\"", asked.principal)?;
    writeln!(notes, "roles = [\"{}\"]", roles.join("\", \""))?;
    writeln!(notes, "sha256 = \"{}\"", token.hash())?;
    if let Some(expires) = &asked.expires {
        writeln!(notes, "expires = {expires}")?;
    }
    notes.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::tokens::Tokens, clock::Timestamp};

    fn parsed(arguments: &[&str]) -> Result<Invocation, clap::Error> {
        let arguments = [&["dual16-server"], arguments].concat();
        parse(arguments.into_iter().map(Into::into))
    }

    #[test]
    fn without_a_command_it_serves() {
        let Ok(Invocation::Serve(config)) = parsed(&["--data", "d"]) else {
            panic!("it serves")
        };
        assert_eq!(config.data, std::path::Path::new("d"));
        assert!(parsed(&[]).unwrap_err().to_string().contains("--data"));
    }

    #[test]
    fn a_new_token_and_its_entry_belong_together() {
        let arguments = "token new --principal ci --role submit --role admin --expires 2027-01-31T00:00:00+01:00";
        let arguments: Vec<_> = arguments.split(' ').collect();
        let Ok(Invocation::Command(Command::Token(TokenCommand::New(asked)))) = parsed(&arguments)
        else {
            panic!("a command")
        };
        let (mut secret, mut notes) = (Vec::new(), Vec::new());
        new_token(&asked, &mut secret, &mut notes).unwrap();
        let secret = String::from_utf8(secret).unwrap();
        let notes = String::from_utf8(notes).unwrap();
        let tokens: Tokens = notes.parse().unwrap();
        let caller = tokens
            .caller_of_token(secret.trim(), Timestamp::MIN)
            .unwrap();
        assert_eq!(caller.principal.as_str(), "ci");
        assert!(caller.roles.has(Role::Submit) && caller.roles.has(Role::Admin));
        assert!(!notes.contains(secret.trim()));
        // Appended to the tokens file, it stands above another entry and below nothing.
        assert!(
            !notes.contains("above") && notes.contains("chmod 600"),
            "{notes}"
        );
    }

    #[test]
    fn help_begins_with_what_the_program_does() {
        let help = parsed(&["--help"]).unwrap_err().to_string();
        assert!(help.starts_with("Keeps dual16 jobs and blobs"), "{help}");
    }

    #[test]
    fn a_token_for_nobody_or_for_nothing_is_refused() {
        for bad in [
            "token new",
            "token new --principal ci",
            "token new --principal c/i --role submit",
            "token new --principal anonymous --role submit",
            "token new --principal ci --role root",
            "token new --principal ci --role submit --expires tomorrow",
            "token new --principal ci --role submit --expires 2027-01-31T00:00:00",
        ] {
            let arguments: Vec<_> = bad.split(' ').collect();
            assert!(parsed(&arguments).is_err(), "{bad}");
        }
    }
}
