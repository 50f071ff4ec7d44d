"""Everything that can go wrong, and how often it was borne.

    python -m tests.soak [PART ...]       SOAK_MINUTES: of fuzzing, 60 by default; SOAK_SEED: another one makes another soak

The fuzzer has a process of its own, of low priority, beside the other parts: on 2 cores they take some 40 minutes of its hour. A
broken promise ends the soak with the part and the seed. Otherwise the figures are printed, and written as JSON to the file that
SOAK_FIGURES names.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from chameleon_data.errors import InputError
from tests.soak.lanes import run, run_beside, say
from tests.soak.parts import PARTS


def main(names: Sequence[str]) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background jobs have it ignored
        signal.signal(each, signal.default_int_handler)
    others = [name for name in names if name != "fuzzed"]
    figures = run_beside([["fuzzed"], others]) if others and "fuzzed" in names else run(names)
    figures["documents lost"] = 0  # whatever is lost, changed or twice there has ended the soak
    for what, count in figures.items():
        say(f"{what:<36}{count:>12,}")
    if "SOAK_FIGURES" in os.environ:
        Path(os.environ["SOAK_FIGURES"]).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or list(PARTS))
    except InputError as refusal:
        sys.exit(f"a refusal where none was promised: {refusal}")
    except KeyboardInterrupt:
        sys.exit(130)
