//! Calls whose answer was lost, and that cannot be done twice.

use dual16::api::{Client, ConnectOptions, JobName};
use dual16_proto::v1::JobState;
use tonic::Code;

use crate::fake::{Fake, JOB};

async fn ended() -> (Fake, Client, JobName) {
    let fake = Fake::start().await;
    fake.script(Vec::new(), JobState::Failed);
    let client = Client::connect(ConnectOptions::new(fake.url()))
        .await
        .unwrap();
    (fake, client, JOB.parse().unwrap())
}

#[tokio::test]
async fn a_retry_whose_answer_is_lost_has_worked() {
    let (fake, client, name) = ended().await;
    fake.state().lose_next_answer = true;
    let job = client.retry_job(&name).await.unwrap();
    assert_eq!(job.state(), JobState::Pending);
    // One that was not repeated is refused as ever.
    let error = client.retry_job(&name).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
}

#[tokio::test]
async fn a_deletion_whose_answer_is_lost_has_worked() {
    let (fake, client, name) = ended().await;
    fake.state().lose_next_answer = true;
    client.delete_job(&name).await.unwrap();
    let error = client.delete_job(&name).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
}
