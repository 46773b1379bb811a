"""How many trials a search needs: the law-guided sampler against Optuna's own, on surfaces whose truth is known.

Run as `python tests/benchmarks/table_search.py [PART ...] [--methods ...] [--seeds N] [--noise ...]`. Parts:

- `table`: Step Law's 17 published cells, smallest to largest, one trial after another
- `parallel`: the same with 8 and with 32 trials asked at once
- `flops`: FLOP until the largest of these cells, or the next, is known, all cells counted
- `planted`: random laws of several kinds; constants of a sampler are chosen here, never on the table
- `asking`: how long a sampler takes to propose

Every method goes through Optuna's ask and tell. A cell is searched for 16 trials, and on until one of them is within
0.25 % of the cell's best without noise, 40 at most; figures are means over cells from the fourth on, with 95 %
intervals over seeds. A part takes about a minute with `--methods` that leave the Gaussian process out; all takes hours.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from searching.asking import asking_cost
from searching.methods import LAW_GUIDED, METHODS, available
from searching.planted import BREAKS_AT, Kind
from searching.runner import STEP_LAW, CellPath, Job, run_jobs
from searching.scores import COUNTED_CELLS, line, missed, of_each, over_seeds, regret_after, score, trials_to_find
from searching.spending import (
    SMALLEST,
    Spent,
    each_cell,
    grid_and_extrapolate,
    smallest_then_target,
    spent,
    target_alone,
)
from searching.step_law import TABLE, read_step_law

from orchestrator.laws import hyperparameters

PEERS = ("random", "tpe", "cmaes", "gp", "tpe-previous", "gp-previous")
NOISES = (0.1, 0.3, 1.0)  # relative, %
AT_ONCE = (8, 32)
MOST_AT_ONCE = 64  # trials in a cell where several are asked at once: a multiple of them all
TRIALS_ASKED_WITH = 500  # in the cell
CELLS_BEHIND = 20
TRIALS_BEHIND = (16, 500)  # in each cell behind

FLOPS_WAYS = {
    "each cell until found": each_cell,
    "target alone": target_alone,
    f"{SMALLEST} smallest, then target": smallest_then_target,
}
# Numbers of cells: the largest, whose grid has five learning rates and is easily searched, and the next.
TARGETS = {16: "the largest cell", 15: "the second largest cell"}


class Bench:
    """The parts, each in lines as they are measured."""

    def __init__(self, *, methods: Sequence[str], seeds: int, noises: Sequence[float], workers: int) -> None:
        self._methods, self._seeds, self._noises, self._workers = methods, seeds, noises, workers

    def table(self) -> Iterator[str]:
        """Step Law's cells, one trial after another."""
        for noise in self._noises:
            yield f"\nStep Law's cells, noise {noise:.1%}, {self._seeds} seeds\n"
            yield from self._compared(Job(surface=STEP_LAW, noise=noise))

    def parallel(self) -> Iterator[str]:
        """Step Law's cells, several trials asked at once."""
        for noise in self._noises:
            for count in AT_ONCE:
                yield f"\nStep Law's cells, {count} asked at once, noise {noise:.1%}, {self._seeds} seeds\n"
                job = Job(surface=STEP_LAW, noise=noise, at_once=count)
                yield from self._compared(replace(job, least=count, most=MOST_AT_ONCE, asked_after=(count,)))

    def planted(self) -> Iterator[str]:
        """Each kind of planted laws; behind a break the cells that it changed, and the first of them alone."""
        for noise in self._noises:
            for kind in Kind:
                yield f"\nplanted laws, {kind}, noise {noise:.1%}, {self._seeds} laws\n"
                cells = [COUNTED_CELLS]
                if kind is Kind.BREAK:
                    cells = [range(BREAKS_AT, COUNTED_CELLS.stop), range(BREAKS_AT, BREAKS_AT + 1)]
                    yield "the second line of a method is the first cell behind the break alone\n"
                yield from self._compared(Job(surface=kind, noise=noise), cells)

    def flops(self) -> Iterator[str]:
        """FLOP until a large cell is known."""
        for noise in self._noises:
            for target, words in TARGETS.items():
                yield f"\nFLOP until {words} is known, noise {noise:.1%}, {self._seeds} seeds\n"
                yield from self._spent(noise, target)

    def _spent(self, noise: float, target: int) -> Iterator[str]:
        yield line("method", "FLOP / 1e21", "known %", "regret %", "way")
        for name, way in FLOPS_WAYS.items():
            for method in self._methods:
                jobs = [way(method, seed, noise, target) for seed in range(self._seeds)]
                yield _spent_line(method, name, [spent(paths) for paths in run_jobs(jobs, self._workers)])
        grids = [grid_and_extrapolate(read_step_law(), seed, noise, target) for seed in range(self._seeds)]
        yield _spent_line(hyperparameters.NAME, f"full grid on the {SMALLEST} smallest, law extrapolated", grids)

    def asking(self) -> Iterator[str]:
        """Milliseconds an ask."""
        for behind in TRIALS_BEHIND:
            yield f"\nms until it proposes, {TRIALS_ASKED_WITH} trials in the cell, {CELLS_BEHIND} cells of {behind}\n"
            yield line("method", "first ask", "next asks")
            for method in self._methods:
                cost = asking_cost(method, trials=TRIALS_ASKED_WITH, cells=CELLS_BEHIND, trials_behind=behind)
                yield line(method, f"{cost.first:.1f}", f"{cost.next:.1f}")

    def _compared(self, job: Job, cells: Sequence[range] = (COUNTED_CELLS,)) -> Iterator[str]:
        """A line for each method and range of cells; the last column is paired by seeds."""
        regrets = [f"regret % after {count}" for count in job.asked_after]
        yield line("method", "trials to 0.25 %", "not found %", *regrets, f"trials - {self._methods[0]}'s")
        reference: list[list[CellPath]] = []
        for method in self._methods:
            jobs = [replace(job, method=method, seed=seed) for seed in range(self._seeds)]
            searches = run_jobs(jobs, self._workers)
            reference = reference or searches
            for counted in cells:
                yield _search_line(method, job.asked_after, searches, reference, counted)


def _search_line(
    method: str,
    asked_after: Sequence[int],
    searches: Sequence[Sequence[CellPath]],
    reference: Sequence[Sequence[CellPath]],
    cells: range,
) -> str:
    regrets = [over_seeds(searches, regret_after(count), cells).text(3) for count in asked_after]
    trials = [of_each(several, trials_to_find, cells) for several in (searches, reference)]
    less = [own - other for own, other in zip(*trials, strict=True)]
    never = over_seeds(searches, missed, cells).text(1)
    return line(method, score(trials[0]).text(), never, *regrets, score(less).text())


def _spent_line(method: str, way: str, searches: Sequence[Spent]) -> str:
    flops = score([search.flops / 1e21 for search in searches]).text()
    known = score([100 * search.known for search in searches])
    regret = score([100 * search.regret for search in searches]).text(3)
    return line(method, flops, f"{known.mean:.0f}", regret, way)


def main() -> None:
    """Write the parts that were asked for."""
    arguments = _arguments()
    # Read by the fresh processes that search: one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    methods, left_out = available(arguments.methods)
    sys.stdout.write(left_out)
    noises = [percent / 100 for percent in arguments.noise]
    bench = Bench(methods=methods, seeds=arguments.seeds, noises=noises, workers=arguments.workers)
    for name in arguments.parts or PARTS:
        if name in NEED_TABLE and not TABLE.exists():
            sys.stdout.write(f"\n{name} is left out: the published table {TABLE.name} is not here\n")
            continue
        for text in PARTS[name](bench):
            sys.stdout.write(text)
            sys.stdout.flush()


PARTS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "table": Bench.table,
    "parallel": Bench.parallel,
    "flops": Bench.flops,
    "planted": Bench.planted,
    "asking": Bench.asking,
}
NEED_TABLE = {"table", "parallel", "flops"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*PEERS, LAW_GUIDED])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--noise", type=float, nargs="+", default=NOISES, metavar="PERCENT")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
