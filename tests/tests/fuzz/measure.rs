//! Runs an entry point and looks at the memory it took.

use dual16_tests::fuzz_entry::Target;

/// Runs `target` on `bytes`; `name` is what a failure calls them.
pub(crate) fn check(target: &Target, name: &str, bytes: &[u8]) {
    // Counts this thread, which is all that an entry point uses.
    let used = allocation_counter::measure(|| (target.run)(bytes)).bytes_max;
    let allowed = target.memory.of(bytes.len());
    assert!(
        used <= allowed,
        "{} took {used} bytes for the {} of {name}, of {allowed} allowed",
        target.name,
        bytes.len(),
    );
}
