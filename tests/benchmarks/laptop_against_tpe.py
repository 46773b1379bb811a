"""The sweep `laptop` on real text, law-guided and by TPE, held against a dense grid at its largest scale.

Run as `python tests/benchmarks/laptop_against_tpe.py [--keep FOLDER]`; about fifteen minutes on two cores. Both
sweeps train the same number of trials of the same sizes, so the same FLOP. Regret is the lowest loss of a sweep's
trials at the largest scale over the fitted best there, which comes from the runs of both and of the grid together.
Losses of real runs are noisy, and the luckiest of more trials is lower: the fitted best has its interval.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from orchestrator import config, ledger
from orchestrator.laws.optimum import Optimum, fit_optima
from orchestrator.laws.records import RunRecord
from orchestrator.laws.selection import group_cells, select
from orchestrator.runfolder import RunFolder
from orchestrator.search_records import search_record

COMMAND = Path(sysconfig.get_path("scripts")) / "scalesweep"
SWEEP = "laptop"
SAMPLERS = ("law-guided", "tpe")
# Around the optima that earlier sweeps found: learning rate, batch in sequences, beta2.
GRID = {"learning_rate": {"low": 1e-3, "high": 1e-2}, "batch_size": {"low": 1, "high": 8}}
GRID_TRIALS = 64


def run(sweep: str, folder: Path, *overrides: str) -> list[RunRecord]:
    """Run a sweep, or go on with it; the completed runs of its largest scale."""
    options = [part for override in overrides for part in ("--set", override)]
    subprocess.run([COMMAND, "run", sweep, "--dir", folder, *options], check=True, stdout=subprocess.DEVNULL)
    plan = RunFolder(folder).sweep().plan()
    largest = plan.scales[-1].name
    trials = [trial for trial in ledger.read(folder).trials.values() if trial.scale == largest]
    records = [search_record(trial, plan.search_of(trial.scale, trial.tokens)) for trial in trials if trial.loss]
    return [replace(record, run_id=f"{folder.name}/{record.run_id}") for record in records]


def grid_file(folder: Path) -> Path:
    """A sweep file of the largest scale alone, searched by a grid, so that its batch divides the same horizons."""
    sweep = config.load(SWEEP)
    content = sweep.resolved() | {"name": "grid", "sampler": "grid", "trials": GRID_TRIALS, "replicates": 1}
    content["ladder"] = content["ladder"][-1:]
    content["space"] |= GRID
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def fitted(records: Sequence[RunRecord]) -> Optimum:
    """The best of the cell by a surface through all runs."""
    cells = group_cells(select(records, ("params", "tokens", "loss"), law="the comparison"))
    (optimum,) = fit_optima(cells, confidence=0.95).optima
    return optimum


def compare(folder: Path) -> None:
    """Write the table out."""
    found = {sampler: run(SWEEP, folder / sampler, f"sampler={sampler}") for sampler in SAMPLERS}
    found["grid"] = run(str(grid_file(folder)), folder / "grid")
    best = fitted([record for records in found.values() for record in records]).loss
    sys.stdout.write(f"fitted best at the largest scale: {best.value:.4f} [{best.low:.4f}, {best.high:.4f}]\n")
    sys.stdout.write(f"{'':12}{'trials':>8}{'lowest':>10}{'regret %':>10}{'mean %':>10}  settings of the lowest\n")
    for name, records in found.items():
        lowest = min(records, key=lambda record: record.loss or 0.0)
        losses = [record.loss for record in records if record.loss is not None]
        regret, mean = (100 * (loss / best.value - 1) for loss in (min(losses), sum(losses) / len(losses)))
        settings = f"{lowest.learning_rate:.3g}, {lowest.batch_tokens:.0f} tokens, {lowest.beta2:.4g}"
        sys.stdout.write(f"{name:12}{len(records):8}{min(losses):10.4f}{regret:10.2f}{mean:10.2f}  {settings}\n")


def main() -> None:
    """Compare in a temporary folder, or in one that is kept and gone on with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the sweeps; a second start goes on")
    folder = parser.parse_args().keep
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return compare(folder)
    with tempfile.TemporaryDirectory(prefix="laptop-") as made:
        return compare(Path(made))


if __name__ == "__main__":
    main()
