//! Which instruction sets this machine has. Found out once; a value of [`Isa`] is the proof that
//! its instructions can run, so a kernel that takes one is safe to call. Knows no kernel.

#[cfg(target_arch = "x86_64")]
mod amx;

use std::fmt;
use std::sync::OnceLock;

/// An instruction set that this machine has. Every kernel gives the same bits on each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    level: Level,
    bytes: Option<Bytes>,
}

/// For the dispatch of a kernel. The tokens can only be made here, after detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The scalar reference.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

/// Products of bytes beside the vectors of a [`Level`]. Only a GEMM has a use for them; every other
/// kernel runs on the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    Dotprod(Dotprod),
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
}

/// Proof of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// Proof of AVX2, of AVX-512 F, BW, VL, DQ, VNNI and VBMI, and of POPCNT: server cores since Ice
/// Lake and Zen 4.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512(());

/// Proof of what [`Avx512`] proves, of AMX TILE and INT8, and that the kernel lets this process use
/// tiles: server cores since Sapphire Rapids.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amx(());

/// Proof of NEON, which every aarch64 machine has that Rust's standard library runs on.
#[cfg(target_arch = "aarch64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neon(());

/// Proof of NEON with `sdot`: Neoverse N1, Cortex-A76, Apple M1.
#[cfg(target_arch = "aarch64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dotprod(());

/// Proof of NEON with `smmla` and its kin: Neoverse V1 and N2, Apple M2.
#[cfg(target_arch = "aarch64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct I8mm(());

impl Isa {
    /// The scalar reference, on every machine.
    pub const PORTABLE: Self = Self::of(Level::Portable);

    /// The widest one.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().unwrap_or(Self::PORTABLE))
    }

    /// All of them, narrow first.
    pub fn available() -> impl Iterator<Item = Self> {
        std::iter::once(Self::PORTABLE).chain(vectors().into_iter().flatten())
    }

    pub(crate) const fn level(self) -> Level {
        self.level
    }

    pub(crate) const fn bytes(self) -> Option<Bytes> {
        self.bytes
    }

    const fn of(level: Level) -> Self {
        Self { level, bytes: None }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn with(self, bytes: Bytes) -> Self {
        Self {
            bytes: Some(bytes),
            ..self
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (self.bytes, self.level) {
            #[cfg(target_arch = "x86_64")]
            (Some(Bytes::Amx(_)), _) => "amx",
            #[cfg(target_arch = "aarch64")]
            (Some(Bytes::Dotprod(_)), _) => "dotprod",
            #[cfg(target_arch = "aarch64")]
            (Some(Bytes::I8mm(_)), _) => "i8mm",
            (_, Level::Portable) => "portable",
            #[cfg(target_arch = "x86_64")]
            (_, Level::Avx2(_)) => "avx2",
            #[cfg(target_arch = "x86_64")]
            (_, Level::Avx512(_)) => "avx512",
            #[cfg(target_arch = "aarch64")]
            (_, Level::Neon(_)) => "neon",
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> [Option<Isa>; 3] {
    let avx2 = is_x86_feature_detected!("avx2");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("popcnt");
    let widest = Isa::of(Level::Avx512(Avx512(())));
    [
        avx2.then_some(Isa::of(Level::Avx2(Avx2(())))),
        avx512.then_some(widest),
        (avx512 && amx::permitted()).then_some(widest.with(Bytes::Amx(Amx(())))),
    ]
}

#[cfg(target_arch = "aarch64")]
fn vectors() -> [Option<Isa>; 3] {
    use std::arch::is_aarch64_feature_detected;

    let neon = Isa::of(Level::Neon(Neon(())));
    [
        Some(neon),
        is_aarch64_feature_detected!("dotprod").then_some(neon.with(Bytes::Dotprod(Dotprod(())))),
        is_aarch64_feature_detected!("i8mm").then_some(neon.with(Bytes::I8mm(I8mm(())))),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vectors() -> [Option<Isa>; 0] {
    []
}

/// A function that runs a loop as it was compiled for the instruction set it is given.
///
/// `portable` is the scalar reference. `vector` is a loop without branches that the compiler turns
/// into vector instructions; both are safe, take the same arguments and must be `inline(always)`,
/// or their code would stay that of the baseline. Rust neither reorders nor contracts float
/// operations, so a loop gives the same bits whatever it is compiled for.
macro_rules! for_each_isa {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident$(<$($generic:ident: $bound:path),+>)?(
            $($argument:ident: $type:ty),+ $(,)?
        ) $(-> $result:ty)? { portable: $portable:path, vector: $vector:path $(,)? }
    ) => {
        $(#[$attribute])*
        #[allow(unsafe_code, reason = "code for an instruction set that a token proves")]
        #[inline]
        $visibility fn $name$(<$($generic: $bound),+>)?(
            isa: $crate::simd::Isa,
            $($argument: $type),+
        ) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2$(<$($generic: $bound),+>)?($($argument: $type),+) $(-> $result)? {
                $vector($($argument),+)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512$(<$($generic: $bound),+>)?($($argument: $type),+) $(-> $result)? {
                $vector($($argument),+)
            }
            match isa.level() {
                $crate::simd::Level::Portable => $portable($($argument),+),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves the feature.
                $crate::simd::Level::Avx2(_) => unsafe { avx2($($argument),+) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves the features.
                $crate::simd::Level::Avx512(_) => unsafe { avx512($($argument),+) },
                #[cfg(target_arch = "aarch64")]
                $crate::simd::Level::Neon(_) => $vector($($argument),+),
            }
        }
    };
}
pub(crate) use for_each_isa;
