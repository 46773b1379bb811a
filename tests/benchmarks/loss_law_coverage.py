"""How often the intervals of the loss laws hold the planted value, and how often a law calls itself weak.

Run as `python tests/benchmarks/loss_law_coverage.py [SWEEPS]`. Designs are called runs where every point
is a run of its own, and curves where the points of a size share one run and most of its noise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from orchestrator.laws import chinchilla, frontier, isoflop, isoflop_akima
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import Status
from search_spaces.errors import FitError

PLANTED = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37, "a": 0.37 / 0.72}
DRAWS = 300


@dataclass(frozen=True, kw_only=True)
class Design:
    """A ladder of sizes, each at several tokens_per_param; `noise` is relative and per run."""

    name: str
    scales: int
    horizons: int
    curves: bool
    noise: float = 0.005

    def records(self, rng: np.random.Generator) -> Iterator[RunRecord]:
        """One planted sweep."""
        for number, params in enumerate(np.geomspace(2e6, 3e8, self.scales)):
            luck = self.noise * rng.standard_normal()
            for ratio in np.geomspace(4, 160, self.horizons):
                own = (
                    luck + self.noise / 5 * rng.standard_normal() if self.curves else self.noise * rng.standard_normal()
                )
                yield RunRecord(
                    run_id=f"{number}" if self.curves else f"{number} {ratio}",
                    params=params,
                    tokens=ratio * params,
                    loss=float(chinchilla.loss(PLANTED, params, ratio * params) * np.exp(own)),
                    schedule="constant",
                )


DESIGNS = (
    Design(name="runs 7x6", scales=7, horizons=6, curves=False),
    Design(name="runs 5x3", scales=5, horizons=3, curves=False),
    Design(name="curves 6x9", scales=6, horizons=9, curves=True),
    Design(name="curves 10x12", scales=10, horizons=12, curves=True, noise=0.002),
)
# What each law estimates of the planted surface. The frontier's exponent is alpha beta / (alpha + beta).
TRUTHS = {
    chinchilla: PLANTED,
    isoflop: {"a": PLANTED["a"]},
    isoflop_akima: {"a": PLANTED["a"]},
    frontier: {"alpha": 0.35 * 0.37 / 0.72, "E": PLANTED["E"]},
}


def main(sweeps: int = 100) -> None:
    """Write a line a design and law: coverage by parameter, and the part called weak."""
    for design in DESIGNS:
        tables = [list(design.records(np.random.default_rng(seed))) for seed in range(sweeps)]
        for module, truth in TRUTHS.items():
            held, weak, fitted = dict.fromkeys(truth, 0), 0, 0
            for seed, table in enumerate(tables):
                try:
                    law = module.fit(table, draws=DRAWS, seed=seed)
                except FitError:
                    continue
                fitted += 1
                weak += law.status is not Status.OK
                for name, value in truth.items():
                    held[name] += law.parameters[name].low <= value <= law.parameters[name].high
            parts = ", ".join(f"{name} {count / max(fitted, 1):.3f}" for name, count in held.items())
            sys.stdout.write(f"{design.name}, {module.NAME}: {parts}; weak {weak} of {fitted} fitted of {sweeps}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
