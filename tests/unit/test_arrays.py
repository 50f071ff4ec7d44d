"""pyarrow does not bring pandas into our processes, and still converts from it and to it."""

from __future__ import annotations

import subprocess
import sys

CHECK = """
import sys
from chameleon_data.arrays import keep_pandas_out

keep_pandas_out()
import numpy as np
import pyarrow as pa

table = pa.table({"a": pa.array([1, 2]), "b": np.arange(2)})
assert "pandas" not in sys.modules, "pyarrow imported pandas"
import pandas as pd

assert table.to_pandas()["a"].tolist() == [1, 2]
assert pa.array(pd.Series([3, 4])).to_pylist() == [3, 4]
"""


def test_arrow_works_without_pandas_and_with_it_later() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True)
