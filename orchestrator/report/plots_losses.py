"""The loss laws: isoFLOP curves, compute-optimal size, the frontier, and how well the surface fits."""

from __future__ import annotations
