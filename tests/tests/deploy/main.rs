//! What is in deploy/: rendered and held against the schemas, read beside the programs it starts, its rules and
//! dashboard on a real Prometheus, its image built and run.
//!
//! No API server is started: what a cluster does with the manifests is not tested (docs/kubernetes.md).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes the helpers of tests for no tests"
)]

mod compose;
mod custom;
mod image;
mod pods;
mod policies;
mod programs;
mod prometheus;
mod rendered;
mod rules;
