//! Whether this process may use the tiles of AMX: they need the processor, an operating system that
//! keeps them over a switch of threads, and the kernel's permission, since a thread that has them
//! costs it 8 KiB more to keep.
#![allow(unsafe_code, reason = "two instructions that ask the system")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};

/// Asks for the permission; every thread of the process has it from then on. What else AVX-512 needs
/// is the caller's to find out.
pub(super) fn permitted() -> bool {
    processor_has() && kernel_permits()
}

fn processor_has() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    const TILE_STATE: u32 = 1 << 17 | 1 << 18;

    let features = AMX_TILE | AMX_INT8;
    if __cpuid(0).eax < 7
        || __cpuid(1).ecx & OSXSAVE == 0
        || __cpuid_count(7, 0).edx & features != features
    {
        return false;
    }
    let state: u32;
    // SAFETY: OSXSAVE says that user code may read XCR0.
    unsafe {
        asm!(
            "xgetbv",
            in("ecx") 0,
            out("eax") state,
            out("edx") _,
            options(nomem, nostack, preserves_flags),
        );
    }
    state & TILE_STATE == TILE_STATE
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`, of Linux since 5.16. `Err` of an older one, or of a
/// sandbox, is a no.
#[cfg(target_os = "linux")]
fn kernel_permits() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;

    let mut result = ARCH_PRCTL;
    // SAFETY: the call takes no pointer and changes nothing but this permission.
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn kernel_permits() -> bool {
    false
}
