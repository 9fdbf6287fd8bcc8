//! Names that mean nothing: a variable or a key that was mistyped, and what may have been meant.

use clap::CommandFactory as _;

use super::known_arguments;
use crate::cli::Cli;

/// A warning for each variable that looks like one of dual16's and is none.
pub fn unknown_variables() -> Vec<String> {
    let known = known_variables();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<_> = set.filter(|name| is_unknown(name, &known)).collect();
    unknown.sort();
    unknown
        .iter()
        .map(|name| {
            let near = nearest(name, known.iter().map(String::as_str));
            format!(
                "the variable {name} means nothing here{}",
                did_you_mean(near)
            )
        })
        .collect()
}

/// The variables of this program's own flags.
fn known_variables() -> Vec<String> {
    let command = Cli::command();
    let arguments = known_arguments(&command);
    let names = arguments
        .values()
        .filter_map(|argument| argument.get_env()?.to_str());
    names.map(str::to_owned).collect()
}

/// Variables that are no flags of this program: those of server, worker, logs and the Python client,
/// whose environment a client may share, and those of the tests.
const OTHERS: &str = "AUDIT_LOG BLOBS BLOB_GRACE CACHE CACHE_BYTES CONFIG DATA DRAIN_DEADLINE DRAIN_SECONDS \
                      LEASE_TTL LISTEN LOG LOG_FORMAT MAX_JOBS MEMORY_LIMIT OPS_LISTEN OPS_PORT_FILE \
                      OTLP_ENDPOINT PAGE_LISTEN PAGE_PORT_FILE PORT_FILE PRESIGN \
                      PRESIGN_ENDPOINT PROGRAM RETAIN_JOBS_FOR RETRY_BACKOFF_MILLIS \
                      SCRUB_MIB_PER_SECOND STORE THREADS TLS_CLIENT_CA TOKEN TOKENS TORCH_PYTHON WORKERS WORKER_NAME";
/// Beginnings of more of them. Kubernetes gives each pod the addresses of a service `dual16-server` so.
const OTHER_PREFIXES: [&str; 5] = ["LIMIT_", "SERVER_", "WORKER_", "TEST_", "CHAOS_"];

fn is_unknown(name: &str, known: &[String]) -> bool {
    let Some(short) = name.strip_prefix("DUAL16_") else {
        return false;
    };
    let other = OTHERS.split(' ').any(|other| other == short)
        || OTHER_PREFIXES
            .iter()
            .any(|prefix| short.starts_with(prefix));
    !other && !known.iter().any(|known| known == name)
}

/// The name that is most like `name`, if one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| distance * 3 <= known.len())
        .map(|(_, known)| known)
}

pub(super) fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(", is it {near}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_unknown_unless_somebody_reads_it() {
        let known = ["DUAL16_TEMPLATE".to_owned()];
        for name in [
            "DUAL16_TEMPLATE",
            "DUAL16_DATA",
            "DUAL16_LIMIT_STAGES",
            "PATH",
        ] {
            assert!(!is_unknown(name, &known), "{name}");
        }
        assert!(is_unknown("DUAL16_TEMPALTE", &known));
        let near = nearest("DUAL16_TEMPALTE", known.iter().map(String::as_str));
        assert_eq!(near, Some("DUAL16_TEMPLATE"));
        assert_eq!(nearest("xyz", ["template"].into_iter()), None);
    }

    #[cfg(feature = "local")]
    #[test]
    fn the_variables_of_the_server_are_no_mistakes() {
        let known = known_variables();
        let server = dual16_server::config::Config::command();
        let names = server
            .get_arguments()
            .filter_map(|one| one.get_env()?.to_str());
        for name in names {
            assert!(!is_unknown(name, &known), "{name}");
        }
    }
}
