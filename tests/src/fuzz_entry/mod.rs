//! What reads input from strangers, as functions of bytes: the entry points of `fuzz/` and of the
//! tests in `tests/tests/fuzz`, which are the same.
//!
//! An entry returns nothing. It must come back whatever it is given, without a panic, and its memory
//! must stay in proportion to what it was given: [`Target::memory`]. It knows the crates' public
//! functions, never a process.

mod batches;
mod config;
mod onnx;
mod request;
mod scratch;

/// One entry point.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name: that of the program in `fuzz/fuzz_targets` and of the folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Reads `data`.
    pub run: fn(data: &[u8]),
    /// Bytes of memory that it may hold at a time.
    pub memory: Memory,
}

/// A bound on memory: `per_byte * n + fixed` bytes for an input of n bytes. A length that an input
/// merely states buys nothing.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Bytes of memory for each byte of input. Formats differ: a tag of two bytes is a whole message
    /// in memory, and deflate makes up to 1032 bytes of one.
    pub per_byte: u64,
    /// Bytes of memory for any input.
    pub fixed: u64,
}

impl Memory {
    /// The bound for an input of `length` bytes.
    pub fn of(self, length: usize) -> u64 {
        self.fixed + self.per_byte * length as u64
    }
}

/// Every entry point.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "onnx",
        run: onnx::read,
        memory: Memory {
            per_byte: 2048,
            fixed: 1 << 20,
        },
    },
    Target {
        name: "safetensors",
        run: batches::safetensors,
        memory: Memory {
            per_byte: 128,
            fixed: 1 << 20,
        },
    },
    Target {
        name: "npz",
        run: batches::npz,
        memory: Memory {
            per_byte: 4096,
            fixed: 1 << 20,
        },
    },
    Target {
        name: "request",
        run: request::judge,
        memory: Memory {
            per_byte: 256,
            fixed: 1 << 20,
        },
    },
    Target {
        name: "spec",
        run: config::spec,
        memory: Memory {
            per_byte: 512,
            fixed: 1 << 20,
        },
    },
    Target {
        name: "config",
        run: config::file_and_flags,
        memory: Memory {
            per_byte: 1024,
            fixed: 4 << 20,
        },
    },
];

/// The entry point called `name`.
///
/// # Panics
/// Where there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no entry point is called {name:?}"))
}
