"""Everything that can go wrong, and how often it was survived.

    python -m tests.soak [PART ...]       SOAK_MINUTES: minutes of fuzzing, 60 by default; SOAK_SEED: another one is another soak

The parts are those of parts.py. The fuzzer has a process of its own, of low priority, beside the other parts, which take some 40
minutes on 2 cores. A broken promise ends the soak with its part and seed. Otherwise the figures are printed, and written as JSON
to the file that SOAK_FIGURES names.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from chameleon_data.errors import InputError
from tests.soak.lanes import run_lanes, run_parts, say
from tests.soak.parts import PARTS


def main(names: Sequence[str]) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):  # SIGINT too, which a shell's background jobs ignore
        signal.signal(each, signal.default_int_handler)
    others = [name for name in names if name != "fuzz"]
    figures = run_lanes([["fuzz"], others]) if others and "fuzz" in names else run_parts(names)
    figures["documents lost"] = 0  # a document that is lost, changed or there twice has ended the soak
    for what, count in figures.items():
        say(f"{what:<36}{count:>12,}")
    if "SOAK_FIGURES" in os.environ:
        Path(os.environ["SOAK_FIGURES"]).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    if unknown := sorted({*sys.argv[1:]} - PARTS.keys()):
        sys.exit(f"no part of the soak: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    try:
        main(sys.argv[1:] or list(PARTS))
    except InputError as refusal:
        sys.exit(f"a refusal where none was promised: {refusal}")
    except KeyboardInterrupt:
        sys.exit(130)
