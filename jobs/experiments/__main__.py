"""`python -m chameleon_data.jobs.experiments NAME [--corpora FOLDER] [--judge JUDGE] [--seeds N]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from chameleon_data.jobs.experiments.run import EXPERIMENTS, run_experiment


def print_experiment(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Run one experiment and print its results as JSON.")
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--corpora", type=Path, help="a folder that holds a folder of files for each domain")
    parser.add_argument("--judge", help="who judges, in the place of the recipe's")
    parser.add_argument("--seeds", type=int, help="how many, in the place of the recipe's")
    asked = parser.parse_args(arguments)
    sys.stdout.write(run_experiment(asked.name, asked.corpora, asked.judge, asked.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(print_experiment(sys.argv[1:]))
