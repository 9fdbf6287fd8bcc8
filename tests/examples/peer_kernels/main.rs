//! dual16's half of the comparison of kernels in `tests/peers`: a process that holds the public
//! kernels of nash and the observer of quant, and times what it is asked to.
//!
//! A line of JSON on stdin is a [`Request`], a line of JSON on stdout its [`Reply`]. The script that
//! asks decides when, so that measurements of both sides alternate and share the noise of the
//! machine. It writes the inputs and checks the outputs; this program knows nothing of its peer.
//!
//! ```sh
//! cargo build --release -p dual16-tests --example peer_kernels
//! ```

mod gemm;
mod mse;
mod mul_sum;
mod tensors;

use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

/// Calls before the measured ones: they fill caches and page in buffers.
const WARM_UP_CALLS: usize = 2;

/// Calls in one round, at least: a median needs some.
const LEAST_CALLS: usize = 3;

/// One round of one kind of work.
#[derive(Debug, Deserialize)]
struct Request {
    work: Work,
    /// Safetensors file with what the work's module lists.
    inputs: PathBuf,
    /// Where the last call's results go.
    outputs: PathBuf,
    /// The scalar reference instead of the best kernel of this machine.
    #[serde(default)]
    scalar: bool,
    threads: usize,
    /// How long to go on calling.
    seconds: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    MulSum,
    A16w8,
    Split,
    MseInt8,
    MseInt16,
    MseBoth,
}

/// Time of every call, in order.
#[derive(Debug, Serialize)]
struct Reply {
    seconds: Vec<f64>,
}

fn main() -> Result<()> {
    for line in stdin().lock().lines() {
        let line = line.context("stdin")?;
        let request: Request =
            serde_json::from_str(&line).with_context(|| format!("request {line}"))?;
        let reply = serde_json::to_string(&answer(&request)?)?;
        let mut out = stdout().lock();
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(request: &Request) -> Result<Reply> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(request.threads)
        .build()?;
    let clock = Clock {
        budget: Duration::from_secs_f64(request.seconds),
    };
    let seconds = match request.work {
        Work::MulSum => mul_sum::measure(request, &pool, clock),
        Work::A16w8 => gemm::measure_a16w8(request, &pool, clock),
        Work::Split => gemm::measure_split(request, &pool, clock),
        Work::MseInt8 => mse::measure(request, &pool, clock, &mse::INT8),
        Work::MseInt16 => mse::measure(request, &pool, clock, &mse::INT16),
        Work::MseBoth => mse::measure(request, &pool, clock, &mse::BOTH),
    }?;
    Ok(Reply { seconds })
}

/// Times calls until a budget is spent.
#[derive(Debug, Clone, Copy)]
struct Clock {
    budget: Duration,
}

impl Clock {
    /// Seconds of every call inside `pool`; stops at the first error.
    fn time(
        self,
        pool: &ThreadPool,
        mut call: impl FnMut() -> Result<()> + Send,
    ) -> Result<Vec<f64>> {
        pool.install(|| {
            for _ in 0..WARM_UP_CALLS {
                call()?;
            }
            let mut seconds = Vec::new();
            let start = Instant::now();
            while seconds.len() < LEAST_CALLS || start.elapsed() < self.budget {
                let before = Instant::now();
                call()?;
                seconds.push(before.elapsed().as_secs_f64());
            }
            Ok(seconds)
        })
    }
}
