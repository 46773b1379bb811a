"""The package that the benchmark scripts beside it import, on the path as for them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
