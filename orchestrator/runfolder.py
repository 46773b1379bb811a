"""A run folder's files: whose it is, and what people ask of its driver."""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestrator import config
from orchestrator.facts import closed
from orchestrator.files import write_atomically
from orchestrator.ledger import Closed, History, Ledger, Opened, in_use, read
from search_spaces.errors import RunFolderError
from search_spaces.plan import SweepPlan

# What may change from one start of a sweep to the next: where it runs, not what it is.
_CHANGEABLE = ("resources", "cluster", "storage", "tracking", "studies")
# After so long, a driver that was clearing away old requests has done so. Seconds; it takes a millisecond.
_SETTLED_S = 0.2
# Characters of a trainer's version that a message shows.
_SHOWN = 40


@dataclass(frozen=True)
class RunFolder:
    """The folder of one sweep. The driver writes it; everybody may read it and leave a request."""

    path: Path

    @property
    def sweep_file(self) -> Path:
        """The resolved sweep file."""
        return self.path / "sweep.yaml"

    @property
    def laws_file(self) -> Path:
        """The fitted laws."""
        return self.path / "laws.json"

    @property
    def report_file(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def runs_file(self) -> Path:
        """The table of runs that the laws were fitted to."""
        return self.path / "runs.parquet"

    @property
    def curves_file(self) -> Path:
        """The table of the runs' whole curves, to which laws of curves were fitted."""
        return self.path / "curves.parquet"

    def sweep(self) -> config.SweepFile:
        """The sweep that the folder holds. Raises RunFolderError where there is none."""
        if not self.sweep_file.is_file():
            raise RunFolderError(f"{self.path} is not a run folder: it has no sweep.yaml; give the folder of a sweep")
        return config.load(str(self.sweep_file))

    def check(self, sweep: config.SweepFile) -> None:
        """Raises RunFolderError, naming what differs, where the folder belongs to another sweep."""
        differing = self.differing(sweep)
        if differing:
            raise RunFolderError(
                f"{self.path} holds a sweep with another {', '.join(differing)}; "
                "choose another folder with --dir, or give the sweep file as it was"
            )

    def differing(self, sweep: config.SweepFile) -> list[str]:
        """The keys of the sweep file in which the folder's sweep is another one; none where it has no sweep."""
        if not self.sweep_file.is_file():
            return []
        kept, given = self.sweep().resolved(), sweep.resolved()
        return [key for key in kept if key not in _CHANGEABLE and kept[key] != given[key]]

    def keep(self, sweep: config.SweepFile) -> None:
        """Write the resolved sweep file."""
        write_atomically(self.sweep_file, yaml.safe_dump(sweep.resolved(), sort_keys=False).encode())

    def request(self, what: str) -> None:
        """Ask the folder's driver to `pause` or `stop`. Raises RunFolderError where no driver has the folder.

        A driver that has only just taken the folder may clear away an older one's requests at that moment,
        so it is looked at once more.
        """
        if not in_use(self.path):
            raise RunFolderError(
                f"no driver has the run folder {self.path}: there is nothing to {what}; if `scalesweep run` was given "
                "only just now, wait until it says something, and ask again"
            )
        write_atomically(self.path / "request", what.encode())
        time.sleep(_SETTLED_S)
        if not self.requested(what):
            write_atomically(self.path / "request", what.encode())

    def close_for_good(self) -> bool:
        """End the sweep of a folder that no driver has; False where it had ended before.

        Raises RunFolderError where no sweep was begun there, or a driver has it.
        """
        begun = read(self.path)  # before the ledger is opened, which would make one
        if begun.first_opened is None:
            raise RunFolderError(
                f"{self.path}: its sweep has not begun, so there is nothing to stop; delete the folder"
            )
        with Ledger.open(self.path) as ledger:
            if closed(ledger.history) is not None:
                return False
            ledger.append(Closed(time=time.time(), how="stopped"))
            return True

    def requested(self, what: str) -> bool:
        """Whether somebody asked for it since the last `forget_requests`."""
        try:
            return (self.path / "request").read_text() == what
        except FileNotFoundError:
            return False

    def forget_requests(self) -> None:
        """A new start begins without old requests."""
        (self.path / "request").unlink(missing_ok=True)


def check_history(history: History, plan: SweepPlan, trainer_version: str, folder: Path) -> None:
    """Raises RunFolderError where the ledger was begun with another plan, trainer or corpus."""
    first: Opened | None = history.first_opened
    if first is None:
        return
    if first.plan != plan.fingerprint():
        raise RunFolderError(f"{folder} was begun with another plan ({first.plan}); choose another folder with --dir")
    if first.trainer_version != trainer_version:
        raise RunFolderError(
            f"{folder} was begun with trainer {_end(first.trainer_version)}, and this is {_end(trainer_version)}: "
            "the corpus, the tokenizer or the trainer has changed since, and old and new trials would not be "
            "comparable; put it back, or choose another folder with --dir"
        )


def _end(version: str) -> str:
    """A trainer's version ends in a hash; what stands before it may be long, and the sweep file has it."""
    return version if len(version) <= _SHOWN else f"...{version[-_SHOWN:]}"


def software_version() -> str:
    """The version of scalesweep that is running."""
    return importlib.metadata.version("scalesweep")
