"""The command line: `scalesweep VERB ...`. Exit codes: 0 done, 1 trials failed, 2 wrong input, 130 interrupted."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import verbs_laws
from orchestrator.masking import mask_logs
from search_spaces.errors import InputError, ScalesweepError
from search_spaces.plan import SweepPlan
from trainers.masking import masked

# How often a simulation says how far it is, seconds.
_PROGRESS_EVERY_S = 2.0

if TYPE_CHECKING:
    from orchestrator.config import SweepFile
    from orchestrator.ledger import History
    from orchestrator.simulation.outcome import Simulation
    from orchestrator.storage.copied import Copied

Verb = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code. A wrong input is one message on standard error."""
    arguments = _parser().parse_args(argv)
    mask_logs()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    verb: Verb = arguments.verb
    try:
        return verb(arguments)
    except InputError as error:
        sys.stderr.write(f"scalesweep: {masked(str(error))}\n")
        return 2
    except ScalesweepError as error:
        sys.stderr.write(f"scalesweep: {masked(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("scalesweep: interrupted; everything recorded is kept, the same command goes on\n")
        return 130
    except BrokenPipeError:  # `scalesweep status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 - a bug: all that is known of it, without the secrets that packages quote
        sys.stderr.write(masked(traceback.format_exc()))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scalesweep",
        description="Which learning rate, batch size and AdamW beta2 at my scale, and what loss will I get?",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    verbs_laws.add_fit(verbs)
    verbs_laws.add_predict(verbs)
    plan_parser = _sweep_verb(verbs, "plan", "what a sweep would cost and teach; starts nothing", plan)
    plan_parser.add_argument(
        "--simulate", action="store_true", help="play it through on an assumed loss surface (about a minute)"
    )
    plan_parser.add_argument("--json", action="store_true", help="for programs")
    _sweep_verb(verbs, "prepare", "download, tokenise and write shards; needs no accelerator", prepare)
    run_parser = _sweep_verb(verbs, "run", "run a sweep, or go on with it", run)
    run_parser.add_argument("--dir", type=Path, metavar="RUN_DIR", help="the run folder (default: runs/NAME)")
    _place_verb(verbs, "pause", "let a running sweep write checkpoints and leave; `run` goes on", pause)
    _place_verb(verbs, "stop", "end a running sweep for good", stop)
    status_parser = _place_verb(verbs, "status", "where a sweep stands", status)
    status_parser.add_argument("--watch", action="store_true", help="again every two seconds, until it is over")
    status_parser.add_argument("--json", action="store_true", help="for programs")
    report_parser = verbs.add_parser("report", help="fit a run folder's laws again, or draw the page of a laws.json")
    report_parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="a run folder, or a laws.json beside its table"
    )
    report_parser.set_defaults(verb=report)
    ui_parser = _folder_verb(verbs, "ui", "the MLflow UI on the run folder's store", ui)
    ui_parser.add_argument("--port", type=int, default=None, help="default: a free one")
    _folder_verb(verbs, "sync", "upload what the tracking server has not got yet", sync)
    doctor_parser = verbs.add_parser("doctor", help="check the installation, the cluster and the stores")
    doctor_parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="check what this sweep needs, too")
    doctor_parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, dotted")
    doctor_parser.set_defaults(verb=doctor)
    return parser


def _sweep_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, verb: Verb
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("sweep", metavar="SWEEP", help="a sweep file, or the name of a ready sweep")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, dotted")
    parser.set_defaults(verb=verb)
    return parser


def _folder_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, verb: Verb
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.set_defaults(verb=verb)
    return parser


def _place_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, verb: Verb
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("place", metavar="RUN_DIR", help="the run folder; from another host, the sweep's `storage`")
    parser.set_defaults(verb=verb)
    return parser


def plan(arguments: argparse.Namespace) -> int:
    """Show what the sweep would cost and teach."""
    from orchestrator import config, preview

    sweep = config.load(arguments.sweep, arguments.set)
    planned = sweep.plan()
    measured = _measured(planned)
    shown = preview.preview(planned, sweep.resources_of, measured)
    if not arguments.json:
        sys.stdout.write(preview.as_text(shown) + "\n")
        sys.stdout.flush()
    simulated = _simulated(sweep, measured) if arguments.simulate else None
    if arguments.json:
        from orchestrator.simulation.text import as_json

        body = preview.as_json(shown) | ({"simulation": as_json(simulated)} if simulated else {})
        sys.stdout.write(json.dumps(body, allow_nan=False) + "\n")
    elif simulated:
        from orchestrator.simulation.text import as_text

        sys.stdout.write(f"\n{as_text(simulated)}\n")
    return 0


def _simulated(sweep: SweepFile, measured: Mapping[int, float]) -> Simulation:
    """The sweep played through, with a line on standard error now and then."""
    from orchestrator.simulation.play import simulate

    said = time.monotonic()

    def progress(ended: int) -> None:
        nonlocal said
        if time.monotonic() - said >= _PROGRESS_EVERY_S:
            said = time.monotonic()
            sys.stderr.write(f"simulated {ended} of at most {sweep.plan().trials} trials\n")

    return simulate(sweep, measured, progress)


def _measured(planned: SweepPlan) -> Mapping[int, float]:
    """The speed of this very sweep's trials, where some have been trained in its usual folder."""
    from orchestrator import ledger
    from orchestrator.status import measured_rates

    folder = Path("runs") / planned.name
    if not (folder / "ledger.jsonl").is_file():
        return {}
    history = ledger.read(folder)
    first = history.first_opened
    same = first is not None and first.plan == planned.fingerprint()
    return measured_rates(planned, history) if same else {}


def prepare(arguments: argparse.Namespace) -> int:
    """Make the corpus ready."""
    from orchestrator import config, launch
    from orchestrator.progress import display

    launch.prepare(config.load(arguments.sweep, arguments.set), display())
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep to its end."""
    from orchestrator import config

    sweep = config.load(arguments.sweep, arguments.set)
    sweep.plan()  # arithmetic first: wrong input is answered before anything heavy is imported
    from orchestrator import launch
    from orchestrator.progress import display

    return launch.run(sweep, arguments.dir or Path("runs") / sweep.name, display())


def pause(arguments: argparse.Namespace) -> int:
    """Ask the driver to leave."""
    return _request(arguments.place, "pause")


def stop(arguments: argparse.Namespace) -> int:
    """Ask the driver to end the sweep; where there is none, end it here."""
    from orchestrator.ledger import in_use
    from orchestrator.runfolder import RunFolder
    from orchestrator.storage.place import is_storage

    path = Path(arguments.place)
    if is_storage(arguments.place) or in_use(path):
        return _request(arguments.place, "stop")
    folder = RunFolder(path)
    folder.sweep()
    if folder.close_for_good():
        sys.stdout.write(f"{path}: no driver had it; it is stopped for good, and `scalesweep run` fits its laws\n")
    else:
        sys.stdout.write(f"{path}: this sweep has ended already\n")
    return 0


def _request(place: str, what: str) -> int:
    from orchestrator.runfolder import RunFolder
    from orchestrator.storage.place import ask, is_storage

    if is_storage(place):
        ask(place, what)
    else:
        RunFolder(Path(place)).request(what)
    sys.stdout.write(f"asked the driver of {place} to {what}; `scalesweep status {place}` shows when it has\n")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Show where the sweep stands."""
    from orchestrator import ledger, progress
    from orchestrator import status as statuses
    from orchestrator.runfolder import RunFolder
    from orchestrator.steering import Steering
    from orchestrator.storage.address import storage_address
    from orchestrator.storage.copied import CopyWatch
    from orchestrator.storage.place import is_storage, run_folder

    stored, watch = is_storage(arguments.place), None
    while True:
        with run_folder(arguments.place) as folder:
            sweep = RunFolder(folder).sweep()
            planned, history = sweep.plan(), ledger.read(folder)
        address = storage_address(arguments.place) if stored else sweep.storage
        watch = watch or (CopyWatch(address) if address else None)
        copied = watch.look(None if stored else folder) if watch else None
        steering = Steering(plan=planned, goal=sweep.goal())
        running = not stored and ledger.in_use(folder)
        now = _as_of(history, copied if stored else None, running=running)
        shown = statuses.sweep_status(planned, history, now=now, steering=steering)
        if arguments.json:
            text = json.dumps(statuses.as_json(shown) | {"storage": asdict(copied) if copied else None})
        else:
            text = progress.as_text(shown) + (f"\n{progress.copy_line(copied, time.time())}" if copied else "")
            if shown.state == "open" and not (stored or running):
                text += "\nno driver has this sweep now; `scalesweep run` goes on with it"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if not arguments.watch or shown.state != "open":
            return 0
        time.sleep(2)


def _as_of(history: History, copied: Copied | None, *, running: bool) -> float:
    """What a status calls now: of a copy the time of its newest piece, without a driver that of the last event."""
    if copied is not None and copied.written_at is not None:
        return copied.written_at
    return time.time() if running or not history.events else history.events[-1].time


def report(arguments: argparse.Namespace) -> int:
    """Fit a run folder again and draw its page, or draw the page of a laws.json."""
    if not arguments.source.is_dir():
        pages = verbs_laws.draw(arguments.source)
        sys.stdout.write("".join(f"report: {page}\n" for page in pages))
        return 0
    from orchestrator import ledger
    from orchestrator.postprocess import postprocess
    from orchestrator.runfolder import RunFolder

    folder = RunFolder(arguments.source)
    outcome = postprocess(folder, ledger.read(folder.path))
    sys.stdout.write(f"{outcome.text}\nlaws:   {folder.laws_file}\nreport: {folder.report_file}\n")
    return 0


def ui(arguments: argparse.Namespace) -> int:
    """Serve the MLflow UI until interrupted."""
    from orchestrator.runfolder import RunFolder
    from orchestrator.tracking.ui import serve

    folder = RunFolder(arguments.run_dir)
    return serve(folder.sweep().tracking.uri, folder.path, arguments.port, sys.stdout.write)


def sync(arguments: argparse.Namespace) -> int:
    """Upload what is missing."""
    from orchestrator.launch import synchronise
    from orchestrator.progress import display

    return synchronise(arguments.run_dir, display())


def doctor(arguments: argparse.Namespace) -> int:
    """Check what can be checked here."""
    from orchestrator.doctor import examine

    return examine(arguments.sweep, arguments.set, sys.stdout.write)


if __name__ == "__main__":
    sys.exit(main())
