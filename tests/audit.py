"""Known vulnerabilities of the pinned packages, where the index can be asked; `make lint` runs it.

Exit 1 names the vulnerable ones. An index that cannot be reached, or a mirror that knows no advisories, is said and passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main() -> int:
    constraints = Path(__file__).parent.parent / "constraints.txt"
    command = [sys.executable, "-m", "pip_audit", "-r", str(constraints), "--no-deps", "--disable-pip", "--timeout", "10",
               "--progress-spinner", "off", "--format", "json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"audit: not done, the index cannot be reached ({done.stderr.strip().splitlines()[-1:]})")
        return 0
    bad = [(d["name"], d["version"], v["id"], v["fix_versions"]) for d in found for v in d.get("vulns", [])]
    for name, version, identity, fixed in bad:
        print(f"audit: {name} {version}: {identity}, mended in {', '.join(fixed) or 'no release yet'}")
    known = sum("vulns" in d for d in found)
    print(f"audit: {known} of {len(found)} packages known to the index, {len(bad)} vulnerabilities")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
