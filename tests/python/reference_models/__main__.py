"""Writes a folder of cases: `python -m reference_models OUT --sample 400 --seed 16`."""

import argparse
import pathlib
import sys

from . import node_tests, random_graphs

GROUPS = {"node": node_tests.write, "random": random_graphs.write}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path, help="folder to write GROUP/CASE into")
    parser.add_argument("--sample", type=int, default=400, help="cases of a group; 0 for all of them")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--group", choices=list(GROUPS), action="append", help="only this group")
    parser.add_argument("--only", action="append", default=[], help="only the case of this name")
    arguments = parser.parse_args()
    for group in arguments.group or GROUPS:
        folder = arguments.out / group
        folder.mkdir(parents=True, exist_ok=True)
        written, left_out = GROUPS[group](folder, arguments.sample, arguments.seed, arguments.only)
        print(f"{group}: {written} cases written, {len(left_out)} left out", file=sys.stderr)
        for name, reason in left_out:
            print(f"  {name}: {reason}", file=sys.stderr)


main()
