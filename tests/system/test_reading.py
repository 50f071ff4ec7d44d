"""Memory of reading, measured in processes of their own on files of some hundred MB; `make bench` reads gigabytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard


def peak(path: Path) -> int:
    """Peak memory in MiB of a fresh process that reads the file."""
    code = f"""
from pathlib import Path
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.recipe import Source
from chameleon_data.corpus.fragments import list_fragments
source = Source(path=({str(path)!r},))
for fragment in list_fragments("own", source).fragments:
    for block in read_blocks(fragment, source, 2**20, 2**20):
        pass
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = json.dumps({"text": "word " * 2000}).encode() + b"\n"
    (tmp_path / "small.jsonl").write_bytes(line * 100)
    (tmp_path / "large.jsonl").write_bytes(line * 20_000)  # 200 MB
    packer = zstandard.ZstdCompressor().compressobj()
    with (tmp_path / "line.jsonl.zst").open("wb") as file:  # one line of 400 MB
        file.write(packer.compress(b'{"text": "'))
        for _ in range(400):
            file.write(packer.compress(b"x" * 10**6))
        file.write(packer.flush())
    rng = np.random.default_rng(0)
    noise = [rng.bytes(4000).hex() for _ in range(20_000)]  # 160 MB in one row group
    pq.write_table(pa.table({"text": noise}), tmp_path / "group.parquet", use_dictionary=False)
    base = peak(tmp_path / "small.jsonl")
    for name in ("large.jsonl", "line.jsonl.zst", "group.parquet"):
        assert peak(tmp_path / name) - base < 110, name
