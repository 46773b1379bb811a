"""Settings for the five largest of Step Law's published cells, predicted from the other twelve.

Run as `python tests/benchmarks/step_law_held_out.py`. Regret is relative loss above the best of a cell's
surface (searching/step_law.py). Ways: the law that the tool itself prefers, its two laws by themselves,
Step Law's own way (all runs within 0.25 % of a cell's best, ordinary least squares), and the usual two
stages (a quadratic in each cell, then power laws through the minima).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats
from searching.step_law import TABLE, StepLawSurface, read_step_law
from searching.surface import record_of

from orchestrator.laws import hyperparameters, joint
from orchestrator.laws.predict import Context, predict
from orchestrator.laws.predicted_settings import settings_law
from orchestrator.laws.records import RunRecord
from orchestrator.laws.registry import fit_laws
from orchestrator.laws.result import FittedLaw

HELD_OUT = 5
NEAR_BEST = 0.0025  # Step Law's filter
WINDOW = 0.05  # of a cell's quadratic, in log loss

Size = tuple[float, float]
Settings = Mapping[str, float]
Rule = Callable[[Size], Settings]


def fitted_laws(surface: StepLawSurface) -> Mapping[str, FittedLaw]:
    """The tool's laws through all cells but the largest five."""
    records: list[RunRecord] = []
    for cell in surface.cells[:-HELD_OUT]:
        grid = surface.grids[cell.params, cell.tokens]
        records += [
            record_of(f"{cell.params:g}-{cell.tokens:g}-{at}", cell, p.settings, p.loss) for at, p in enumerate(grid)
        ]
    names = [hyperparameters.NAME, joint.NAME]
    return fit_laws(records, names=names, draws=200).laws


def by_law(law: FittedLaw) -> Rule:
    """What the tool predicts from one law."""
    laws = {hyperparameters.NAME: law}

    def rule(size: Size) -> Settings:
        found = predict(laws, Context(), params=size[0], tokens=size[1])
        return {name: found.value(name) for name in ("learning_rate", "batch_tokens")}

    return rule


def step_laws_way(surface: StepLawSurface) -> Rule:
    """log lr on (log N, log D), log batch on log D, over all runs near their cell's best."""
    rows = []
    for (params, tokens), grid in list(surface.grids.items())[:-HELD_OUT]:
        best = min(point.loss for point in grid)
        near = [point for point in grid if point.loss <= (1 + NEAR_BEST) * best]
        rows += [(1, np.log(params), np.log(tokens), np.log(p.learning_rate), np.log(p.batch_tokens)) for p in near]
    return _power_laws(np.array(rows), batch_terms=(0, 2))


def two_stages(surface: StepLawSurface) -> Rule:
    """A quadratic's minimum in each cell, then both settings on (log N, log D)."""
    rows = []
    for (params, tokens), grid in list(surface.grids.items())[:-HELD_OUT]:
        places = np.log([[point.learning_rate, point.batch_tokens] for point in grid])
        log_loss = np.log([point.loss for point in grid])
        near = log_loss <= log_loss.min() + WINDOW
        u, v = (places[near] - places[near].mean(axis=0)).T
        design = np.column_stack([np.ones_like(u), u, v, u**2, u * v, v**2])
        _, a, b, aa, ab, bb = np.linalg.lstsq(design, log_loss[near], rcond=None)[0]
        minimum = np.linalg.solve([[2 * aa, ab], [ab, 2 * bb]], [-a, -b]) + places[near].mean(axis=0)
        rows.append((1, np.log(params), np.log(tokens), *minimum))
    return _power_laws(np.array(rows), batch_terms=(0, 1, 2))


def _power_laws(rows: np.ndarray, *, batch_terms: tuple[int, ...]) -> Rule:
    rate = np.linalg.lstsq(rows[:, :3], rows[:, 3], rcond=None)[0]
    batch = np.zeros(3)
    batch[list(batch_terms)] = np.linalg.lstsq(rows[:, list(batch_terms)], rows[:, 4], rcond=None)[0]

    def rule(size: Size) -> Settings:
        design = np.array([1, np.log(size[0]), np.log(size[1])])
        return {"learning_rate": float(np.exp(design @ rate)), "batch_tokens": float(np.exp(design @ batch))}

    return rule


def regrets(surface: StepLawSurface, rule: Rule) -> np.ndarray:
    """Of the rule's settings in each held-out cell."""
    held = surface.cells[-HELD_OUT:]
    return np.array([surface.regret(cell.params, cell.tokens, rule((cell.params, cell.tokens))) for cell in held])


def rules(surface: StepLawSurface) -> dict[str, Rule]:
    """All ways, the tool's choice first."""
    laws = fitted_laws(surface)
    preferred = settings_law(laws)
    found = {} if preferred is None else {f"the tool's choice ({preferred.name})": by_law(preferred)}
    return (
        found
        | {name: by_law(law) for name, law in laws.items()}
        | {
            "Step Law's way": step_laws_way(surface),
            "two stages, quadratic": two_stages(surface),
        }
    )


def main() -> None:
    """Write a line a way: mean regret with its 95 % interval over the five cells, and each cell's."""
    if not TABLE.exists():
        sys.stdout.write(f"left out: the published table {TABLE.name} is not here\n")
        return
    surface = read_step_law()
    for name, rule in rules(surface).items():
        found = 100 * regrets(surface, rule)
        half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
        cells = " ".join(f"{value:.3f}" for value in found)
        sys.stdout.write(f"{name:36} mean regret {found.mean():.3f} ± {half:.3f} %   cells {cells}\n")


if __name__ == "__main__":
    main()
