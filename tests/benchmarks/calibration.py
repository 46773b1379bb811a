"""How often the intervals of all laws hold the planted truth, and how often a law calls itself weak.

Run as `python tests/benchmarks/calibration.py [SWEEPS] [--designs NAME ...] [--draws N] [--workers N]`: so many
synthetic sweeps (500 take a core about three minutes) over the designs of tests/support/calibrating/designs.py. A line
a design and law: checks of 95 % intervals, the part of parameters and of predictions that they hold, and the part of
sweeps in which the law is weak or was not fitted, on a design that is hard or well-posed for it; `!` marks less than
90 % or more than 99.5 % of the checks, `w` a well-posed design with more than 5 % weak beyond chance. The totals'
intervals take the sweep as the unit.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

# Read when numpy is imported, here and by the fresh processes that fit: several threads of one fit are slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from calibrating.checks import Kind
from calibrating.designs import DESIGNS
from calibrating.tally import HIGHEST, LOWEST, MOST_WEAK, Job, Outcome, Part, coverage, jobs, run, weak

# Coverage of one law on one design outside of these is marked.
LOW, HIGH = 0.90, 0.995


def main() -> None:
    """Write the table."""
    arguments = _arguments()
    designs = [design for design in DESIGNS if not arguments.designs or design.name in arguments.designs]
    work = jobs(arguments.sweeps, draws=arguments.draws, designs=designs)
    outcomes: list[Outcome] = []
    sys.stdout.write(_line("design", "law", "sweeps", "checks", "parameters", "predictions", "weak", "") + "\n")
    for _, group in groupby(_outcomes(work, arguments.workers), key=lambda outcome: outcome.design):
        own = list(group)
        outcomes += own
        for text in _lines(own):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
    for text in _totals(outcomes):
        sys.stdout.write(text + "\n")


def _outcomes(work: Sequence[Job], workers: int) -> Iterator[Outcome]:
    if workers == 1:
        yield from (outcome for job in work for outcome in run(job))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from (outcome for several in pool.map(run, work, chunksize=4) for outcome in several)


def _lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for design, law in dict.fromkeys((outcome.design, outcome.law) for outcome in outcomes):
        own = [outcome for outcome in outcomes if (outcome.design, outcome.law) == (design, law)]
        parts = [coverage(own, kind) for kind in Kind]
        posed = own[0].well_posed
        words = [f"{part.value:.3f}" if part.count else "-" for part in parts]
        share = f"{weak(own).value:.0%}" + ("" if posed else " (hard)")
        yield _line(design, law, str(len(own)), str(coverage(own).count), *words, share, _marks(own, well_posed=posed))


def _marks(own: Sequence[Outcome], *, well_posed: bool) -> str:
    held = coverage(own)
    off = held.count and not LOW <= held.value <= HIGH
    return "!" * bool(off) + "w" * (well_posed and weak(own).low > MOST_WEAK)


def _totals(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for words, kind in (("parameters", Kind.PARAMETER), ("predictions", Kind.PREDICTION), ("all checks", None)):
        yield f"{words}: {_interval(coverage(outcomes, kind))}"
    poor = weak([outcome for outcome in outcomes if outcome.well_posed])
    yield f"weak on well-posed designs: {_interval(poor)}"
    held = coverage(outcomes)
    good = held.high >= LOWEST and held.low <= HIGHEST and poor.low <= MOST_WEAK
    wanted = f"{LOWEST:.0%} to {HIGHEST:.0%} up to binomial error, and at most {MOST_WEAK:.0%} weak"
    yield f"{'kept' if good else 'NOT KEPT'}: {wanted}"


def _interval(part: Part) -> str:
    return f"{part.value:.2%} ({part.low:.2%} to {part.high:.2%}) of {part.count}"


def _line(*words: str) -> str:
    widths = (28, 16, 7, 7, 11, 12, 11, 2)
    return "".join(word.ljust(width) for word, width in zip(words, widths, strict=True)).rstrip()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="?", type=int, default=500, metavar="SWEEPS", help="in all designs together")
    parser.add_argument("--designs", nargs="+", choices=[design.name for design in DESIGNS], metavar="NAME")
    parser.add_argument("--draws", type=int, default=400, help="of each fit")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
