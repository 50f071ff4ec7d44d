"""What a mixture costs in FLOPs, beside what others state.

Embedding is all but the whole cost: 2 FLOPs for each parameter outside the table of tokens and each token that is embedded.
"""

from __future__ import annotations

from typing import Any

MINILM_PARAMETERS = 10_646_784
"""Parameters of all-MiniLM-L6-v2 outside its tables of tokens and positions: 6 layers of width 384."""
STATED = {"DoReMi": 1.34e18, "DoGE": 6.7e17, "RegMix": 1.2e18, "Chameleon (second hand, by its paper)": 1.36e17}
"""Method -> FLOPs that its authors, or the paper of Chameleon, state for seven domains of SlimPajama."""


def measure_cost() -> dict[str, Any]:
    """FLOPs of weights for seven domains at the default sample, and how many times less than each method states."""
    cases = []
    for samples in (48, 256, 4096):
        tokens = 7 * samples * 256
        flops = 2 * MINILM_PARAMETERS * tokens
        times = {name: round(stated / flops) for name, stated in STATED.items()}
        cases.append({"samples": samples, "tokens": tokens, "flops": float(flops), "stated_over_ours": times})
    return {"stated": STATED, "cases": cases}
