"""Loss surfaces to search: cells in the order they are searched, and how far a point is from a cell's best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.laws.records import RunRecord

Settings = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A size and its search space: lowest and highest value of each setting, by name."""

    params: float
    tokens: float
    ranges: Mapping[str, tuple[float, float]]

    @property
    def flops(self) -> float:
        """FLOP of one trial."""
        return 6 * self.params * self.tokens


class Surface(Protocol):
    """A family of cells, smallest to largest by params * tokens. Settings are by the names of a cell's ranges."""

    @property
    def cells(self) -> Sequence[Cell]:
        """The cells in the order they are searched."""

    def evaluate(self, params: float, tokens: float, settings: Settings) -> float:
        """Loss without noise, nats per token. Raises KeyError for a size that is no cell."""

    def regret(self, params: float, tokens: float, settings: Settings) -> float:
        """Relative loss above the best of the cell's space, without noise."""


def record_of(run_id: str, cell: Cell, settings: Settings, loss: float) -> RunRecord:
    """A measured trial as the laws take it."""
    return RunRecord(
        run_id=run_id,
        params=cell.params,
        tokens=cell.tokens,
        loss=loss,
        learning_rate=settings["learning_rate"],
        batch_tokens=settings["batch_tokens"],
        beta2=settings.get("beta2"),
    )
