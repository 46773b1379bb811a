"""What settings predicted for a cell that a law has not seen would cost in it."""

from __future__ import annotations

import numpy as np

from orchestrator.laws.optimum import OptimumFit
from orchestrator.laws.result import Floats
from orchestrator.laws.surface_form import Ints


def excess(optima: OptimumFit, cells: Ints, places: Floats) -> Floats:
    """Log loss above each cell's own optimum at these coordinates (cells, settings), (cells,).

    Judged by the pooled surface around the cell's optimum. Where that lies on an edge, a place at or
    beyond it is as good, since nothing was measured there.
    """
    centre, side = optima.places.centre[cells], optima.places.side[cells]
    low, high = np.moveaxis(optima.places.interior[cells], -1, 0)
    bound = np.where(side > 0, high, low)
    short = np.where(side > 0, np.minimum(places - bound, 0.0), np.maximum(places - bound, 0.0))
    return optima.surface.excess(np.where(side == 0, places - centre, short))


def mean_excess(above: Floats, units: Ints) -> float:
    """The mean over exchangeable units of their cells' mean."""
    return float(np.mean([above[units == unit].mean() for unit in np.unique(units)]))
