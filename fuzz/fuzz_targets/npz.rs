//! NumPy archives, and lone .npy arrays. The entry point is `dual16_tests::fuzz_entry`, as in the tests.
#![no_main]

use dual16_tests::fuzz_entry::target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| (target("npz").run)(data));
