//! `dual16 local-server`: the cluster of this machine for a program that speaks the API itself, as the
//! Python client does. Hidden from help: nobody types it.
//!
//! It prints `{"url": …}` once it serves and ends when its stdin does, so with whoever holds the other
//! end. DUAL16_TOKEN holds the one token that it lets in: a port of this machine is everyone's on it.

use std::io;

use dual16_rpc::credentials::TokenSource;
use serde_json::json;

use super::{Context, Signal, session::workers_of};
use crate::{
    api::ApiError,
    error::Error,
    local::{LocalCluster, State},
};

pub(super) async fn run(mut context: Context<'_>) -> Result<(), Error> {
    let token = TokenSource::of(None).map_err(ApiError::from)?;
    let (Some(data), Some(TokenSource::Value(token))) = (&context.global.data, token) else {
        return Err(Error::usage(
            "local-server needs a folder for its state and a token",
            "give --data DIR, and the token in DUAL16_TOKEN",
        ));
    };
    let workers = workers_of(context.global);
    let cluster = LocalCluster::start(data, State::Kept, workers, Some(token)).await?;
    let printed = context
        .terminal
        .result(&json!({"url": cluster.url()}).to_string());
    if printed.is_ok() {
        let mut left = left_alone();
        loop {
            tokio::select! {
                _ = &mut left => break,
                // Ctrl-C goes to everyone at the terminal, and is for the program that started this one.
                signal = context.signals.next() => if signal == Signal::Terminate { break },
            }
        }
    }
    cluster.shutdown().await;
    printed
}

/// Comes when stdin ends. On a thread of its own: a read of stdin cannot be called off.
fn left_alone() -> tokio::sync::oneshot::Receiver<()> {
    let (sender, left) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Broken or closed, there is nobody left at the other end.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = sender.send(());
    });
    left
}
