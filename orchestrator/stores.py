"""The stores of a sweep: checked before anything is started, opened for its driver."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.config import SweepFile
from orchestrator.courier import StoreUnreachable
from orchestrator.databases import check_apart
from orchestrator.filesystems import network_filesystem
from orchestrator.ledger import Ledger
from orchestrator.mirrored import MirroredTracker
from orchestrator.ports import Tracker
from search_spaces.plan import SweepPlan

_log = logging.getLogger(__name__)

# How long the end of a sweep waits for slow stores, seconds.
PATIENCE_S = 60.0


def check_stores(sweep: SweepFile, folder: Path) -> None:
    """Whether the stores answer and take our credentials.

    Raises InputError where they never will; warns where they do not answer now, or lie where they may be damaged.
    """
    from orchestrator.tracking import access
    from orchestrator.tracking.store import store_uri

    uri = store_uri(sweep.tracking.uri, folder)
    check_apart(uri, sweep.studies.uri)
    _warn_of_network(uri, folder)
    _warn_if_unreachable(lambda: access.check(uri), folder)
    if sweep.studies.uri is not None:
        from orchestrator.proposals import mirror

        studies = sweep.studies.uri
        _warn_if_unreachable(lambda: mirror.check(studies), folder)


@contextmanager
def tracker(sweep: SweepFile, plan: SweepPlan, folder: Path, ledger: Ledger) -> Iterator[Tracker]:
    """The tracker (and the mirror behind it), which whoever gets it closes; an error leaves no run as running."""
    from orchestrator.tracking.uploader import MlflowTracker

    first = ledger.history.first_opened
    sweep_id = first.sweep_id if first else ""
    opened: Tracker = MlflowTracker(uri=sweep.tracking.uri, folder=folder, plan=plan, sweep_id=sweep_id)
    if sweep.studies.uri is not None:
        from orchestrator.proposals.mirror import StudyMirror

        opened = MirroredTracker(opened, StudyMirror(uri=sweep.studies.uri, plan=plan, sweep_id=sweep_id))
    try:
        yield opened
    except Exception:
        opened.close(PATIENCE_S)
        raise


def _warn_if_unreachable(check: Callable[[], None], folder: Path) -> None:
    try:
        check()
    except StoreUnreachable as error:
        _log.warning("%s; the sweep goes on, and `scalesweep sync %s` uploads what is missing later", error, folder)


def _warn_of_network(uri: str, folder: Path) -> None:
    """SQLite on a filesystem of another machine loses its locks, and the whole run folder its promises."""
    sqlite = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    kind = network_filesystem(sqlite or folder) or network_filesystem(folder)
    if kind is None:
        return
    remedy = "give --dir on a disk of this machine (and `storage:` for what other nodes need)"
    if sqlite is not None:
        remedy += ", or `tracking: {uri: http://...}` of an MLflow server"
    _log.warning("%s lies on a network filesystem (%s), where SQLite's locks do not hold: %s", folder, kind, remedy)
