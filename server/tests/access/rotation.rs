//! Tokens and certificates change under a running server.

use std::{fs, time::Duration};

use tonic::Code;

use super::guarded::{Caller, Guarded, entries};

#[tokio::test]
async fn tokens_are_rotated_without_a_restart() {
    let old = Caller::new("ci", "submit");
    let new = Caller::new("ci", "submit");
    let guarded = Guarded::start(&[&old]).await;
    let tokens = guarded.file("tokens");
    let job = guarded.submit(&old, "").await;
    assert_eq!(guarded.code_as(&new).await, Code::Unauthenticated);

    fs::write(&tokens, entries(&[&old, &new])).unwrap();
    guarded.server.reload().await;
    assert_eq!(guarded.code_as(&old).await, Code::Ok);
    assert_eq!(guarded.code_as(&new).await, Code::Ok);
    assert_eq!(
        guarded.jobs_of(&new).await,
        [job],
        "the principal is the same"
    );

    fs::write(&tokens, entries(&[&new])).unwrap();
    guarded.server.reload().await;
    assert_eq!(guarded.code_as(&old).await, Code::Unauthenticated);

    // A file that is wrong, or gone, changes nothing.
    fs::write(&tokens, "[[token]]\nprincipal =").unwrap();
    guarded.server.reload().await;
    assert_eq!(guarded.code_as(&new).await, Code::Ok);
    fs::remove_file(&tokens).unwrap();
    guarded.server.reload().await;
    assert_eq!(guarded.code_as(&new).await, Code::Ok);
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_word() {
    let old = Caller::new("ci", "submit");
    let new = Caller::new("ci", "submit");
    let guarded = Guarded::start_with(&entries(&[&old]), |options| {
        options.look_for_changes = Duration::from_millis(10);
    })
    .await;
    fs::write(guarded.file("tokens"), entries(&[&new])).unwrap();
    // Bounded by the call's own limit times this; the first look comes after 10 ms.
    for _ in 0..1000 {
        if guarded.code_as(&new).await == Code::Ok {
            assert_eq!(guarded.code_as(&old).await, Code::Unauthenticated);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the change was not noticed");
}

#[tokio::test]
async fn a_token_ends_when_it_says() {
    let brief = Caller::new("ci", "submit");
    let lasting = Caller::new("ci", "submit");
    // The clock of the test stands at 2023-11-14T22:13:20Z.
    let file = format!(
        "{}expires = 2023-11-14T22:13:21Z\n{}",
        brief.entry(),
        lasting.entry()
    );
    let guarded = Guarded::start_with(&file, |_| {}).await;
    assert_eq!(guarded.code_as(&brief).await, Code::Ok);
    guarded.clock.advance(Duration::from_secs(1));
    assert_eq!(guarded.code_as(&brief).await, Code::Unauthenticated);
    assert_eq!(guarded.code_as(&lasting).await, Code::Ok);
}

#[tokio::test]
async fn a_token_ends_by_the_clock_on_the_wall() {
    let brief = Caller::new("ci", "submit");
    let file = format!("{}expires = 2023-11-14T22:13:21Z\n", brief.entry());
    let guarded = Guarded::start_with(&file, |_| {}).await;
    assert_eq!(guarded.code_as(&brief).await, Code::Ok);
    // The machine began with a clock that was late, and has now been set.
    guarded.clock.step(Duration::from_secs(1));
    assert_eq!(guarded.code_as(&brief).await, Code::Unauthenticated);
}
