//! Which instruction sets this machine has. Found out once; a value of [`Isa`] is the proof that
//! its instructions can run, so a kernel that takes one is safe to call. Knows no kernel.

use std::fmt;
use std::sync::OnceLock;

/// An instruction set that this machine has. Every kernel gives the same bits on each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

/// For the dispatch of a kernel. The tokens can only be made here, after detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The scalar reference.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Proof of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// Proof of AVX2, of AVX-512 F, BW, VL, DQ and VNNI, and of POPCNT: server cores since Ice Lake and Zen 4.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Isa {
    /// The scalar reference, on every machine.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// The widest one.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().unwrap_or(Self::PORTABLE))
    }

    /// All of them, narrow first.
    pub fn available() -> impl Iterator<Item = Self> {
        std::iter::once(Self::PORTABLE).chain(vector_levels().into_iter().flatten().map(Self))
    }

    pub(crate) const fn level(self) -> Level {
        self.0
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn vector_levels() -> [Option<Level>; 2] {
    let avx2 = is_x86_feature_detected!("avx2");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("popcnt");
    [
        avx2.then_some(Level::Avx2(Avx2(()))),
        avx512.then_some(Level::Avx512(Avx512(()))),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_levels() -> [Option<Level>; 0] {
    []
}
