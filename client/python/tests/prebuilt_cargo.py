"""Cargo as maturin calls it, but for the build itself: the program that DUAL16_PROGRAM names is said to have been
built.

A build of its own would compile everything once more, with other features than the tests'.
"""

import json
import os
import subprocess
import sys

arguments = sys.argv[1:]
cargo = os.environ["REAL_CARGO"]
if "rustc" not in arguments:
    sys.exit(subprocess.run([cargo, *arguments]).returncode)
manifest = arguments[arguments.index("--manifest-path") + 1]
metadata = json.loads(
    subprocess.check_output(
        [cargo, "metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path", manifest]
    )
)
(package,) = (one for one in metadata["packages"] if one["name"] == "dual16")
(target,) = (one for one in package["targets"] if one["kind"] == ["bin"])
program = os.environ["DUAL16_PROGRAM"]
profile = {"opt_level": "0", "debuginfo": 0, "debug_assertions": True, "overflow_checks": True, "test": False}
artifact = {
    "reason": "compiler-artifact",
    "package_id": package["id"],
    "manifest_path": package["manifest_path"],
    "target": target,
    "profile": profile,
    "features": ["default", "local"],
    "filenames": [program],
    "executable": program,
    "fresh": True,
}
print(json.dumps(artifact))
print(json.dumps({"reason": "build-finished", "success": True}))
