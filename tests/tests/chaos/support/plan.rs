//! What goes wrong, and when: drawn from a seed, so that a failure can be repeated, and bounded by a
//! number of rounds.

use std::{
    env,
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Seed where DUAL16_CHAOS_SEED names no other.
const SEED: u64 = 16;

/// Ports that no system hands out by itself: a client that calls a dead server on one of those it
/// does may be given the very port as its own, and then talks to itself.
const STEADY_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The plan of one test.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    random: StdRng,
}

impl Plan {
    /// `rounds` rounds, or as many times more as DUAL16_CHAOS_FACTOR says.
    ///
    /// # Panics
    /// Where one of the variables is no number.
    #[allow(
        clippy::print_stdout,
        reason = "cargo shows it with the failed test, and only then"
    )]
    pub(crate) fn of(test: &str, rounds: u32) -> Self {
        let seed = variable("DUAL16_CHAOS_SEED").unwrap_or(SEED);
        let factor = variable("DUAL16_CHAOS_FACTOR").unwrap_or(1);
        let rounds = rounds.saturating_mul(u32::try_from(factor).unwrap());
        println!("{test}: DUAL16_CHAOS_SEED={seed}, {rounds} rounds");
        Self {
            rounds,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// A time between two, in milliseconds.
    pub(crate) fn time(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(milliseconds))
    }

    /// A number.
    pub(crate) fn number(&mut self, range: std::ops::Range<usize>) -> usize {
        self.random.random_range(range)
    }
}

/// A free port for a server that will be killed and come back.
pub(crate) fn steady_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 10_000) as u16;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < 1_000, "no port of {STEADY_PORTS:?} is free");
        let port = STEADY_PORTS.start + start.wrapping_add(step * 7) % STEADY_PORTS.len() as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is {text:?}; it must be a number")))
}
