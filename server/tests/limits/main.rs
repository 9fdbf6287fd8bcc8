//! Every limit of the server, one a row: set low on a real server, exceeded, and what comes of it.
//! A limit without a row fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of tests fail as the tests themselves do"
)]

/// A row.
macro_rules! row {
    ($limit:literal, $low:literal, $then:expr, |$server:ident| $exceed:expr $(,)?) => {
        $crate::Row {
            limit: $limit,
            low: $low,
            with: &[],
            then: $then,
            exceed: |$server| Box::pin(async move { $exceed }),
        }
    };
}

mod acts;
mod rows;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeSet, pin::Pin, time::Duration};

use clap::Parser as _;
use dual16_server::limits::Limits;
use rows::ROWS;
use support::*;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What exceeding a limit leads to.
enum Then {
    /// Too much for ever: RESOURCE_EXHAUSTED with LIMIT_EXCEEDED, the field of the request, and no
    /// time to come back.
    Never(&'static str),
    /// Too much for now: a refusal with the time to come back.
    Later(Code, &'static str),
    /// No refusal. Says what happens; the row has looked.
    Instead(&'static str),
}

type Seen<'a> = Pin<Box<dyn Future<Output = Result<(), Status>> + 'a>>;
type Exceed = for<'a> fn(&'a TestServer) -> Seen<'a>;

struct Row {
    limit: &'static str,
    low: u64,
    /// Further limits without which this one is not met.
    with: &'static [(&'static str, u64)],
    then: Then,
    exceed: Exceed,
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    limits: Limits,
}

/// The defaults but for those named, by their flags.
fn low(figures: &[(&str, u64)]) -> Limits {
    let flag = |(name, figure): &(&str, u64)| {
        let name = name.replace('_', "-");
        format!("--limit-{name}={figure}")
    };
    let flags = figures.iter().map(flag);
    Flags::parse_from(std::iter::once("server".to_owned()).chain(flags)).limits
}

#[tokio::test]
async fn every_limit_is_exceeded_as_documented() {
    let named: BTreeSet<String> = ROWS.iter().map(|row| row.limit.to_owned()).collect();
    let all: BTreeSet<String> = Limits::default().report().into_keys().collect();
    assert_eq!(named, all, "limits and rows differ");
    assert_eq!(ROWS.len(), all.len(), "two rows have one limit");

    for row in ROWS {
        let limits = low(&[&[(row.limit, row.low)], row.with].concat());
        let server = serve_limited(limits).await;
        let seen = tokio::time::timeout(Duration::from_secs(30), (row.exceed)(&server));
        let seen = seen.await.unwrap_or_else(|_| panic!("{} hangs", row.limit));
        if let Err(status) = &seen {
            let info = status.get_details_error_info();
            assert!(info.is_some(), "{}: {status:?}", row.limit);
        }
        match (&row.then, seen) {
            (Then::Instead(_), Ok(())) => {}
            (Then::Never(field), Err(status)) => never(row, field, &status),
            (Then::Later(code, why), Err(status)) => later(row, (*code, why), &status),
            (Then::Instead(what), Err(status)) => {
                panic!("{}: not {what}, but {status:?}", row.limit)
            }
            (_, Ok(())) => panic!("{}: nothing was refused", row.limit),
        }
    }
}

fn never(row: &Row, field: &str, status: &Status) {
    let (why, details) = reason(status);
    let wanted = (Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(
        (status.code(), why.as_str()),
        wanted,
        "{}: {status:?}",
        row.limit
    );
    assert!(details.retry_info().is_none(), "{}", row.limit);
    names_the_limit(row, status);
    // A stage is one too many whatever its fields are.
    let bad_request = details.bad_request();
    let violated = bad_request.map_or("", |bad| bad.field_violations[0].field.as_str());
    assert_eq!(violated, field, "{}", row.limit);
    let found = &details.error_info().unwrap().metadata.get("found");
    if let Some(found) = found {
        assert!(
            found.parse::<u64>().unwrap() > row.low,
            "{}: {found}",
            row.limit
        );
    }
}

fn later(row: &Row, wanted: (Code, &str), status: &Status) {
    let (why, details) = reason(status);
    assert_eq!(
        (status.code(), why.as_str()),
        wanted,
        "{}: {status:?}",
        row.limit
    );
    let retry = details.retry_info().and_then(|info| info.retry_delay);
    assert!(retry > Some(Duration::ZERO), "{}: {retry:?}", row.limit);
    if status.code() == Code::ResourceExhausted {
        names_the_limit(row, status);
    }
}

fn names_the_limit(row: &Row, status: &Status) {
    let metadata = reason(status).1.error_info().unwrap().metadata.clone();
    let (limit, max) = (metadata.get("limit"), metadata.get("max"));
    assert_eq!(limit.map(String::as_str), Some(row.limit), "{metadata:?}");
    assert_eq!(max, Some(&row.low.to_string()), "{}", row.limit);
}
