"""What the record of a sweep says, and what must hold of it whatever happened on the way."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from driven import Case

from orchestrator import config, ledger
from orchestrator.curves import read_curve, trial_folder
from orchestrator.ledger import Ended, History, Opened, Started
from orchestrator.ports import Assignment, AttemptEnded, PointsArrived, WorkerPool
from orchestrator.trial import Trial, TrialState, spec_of
from trainers.api import CurvePoint
from trainers.spool import POINTS_FILE

# What of a point is decided by the trial's key. Times and speeds are not.
DECIDED = ("tokens", "loss", "train_loss", "grad_norm", "learning_rate")
Curve = list[tuple[float | None, ...]]


def history_of(folder: Path) -> History:
    """The ledger's history, empty before there is one."""
    return ledger.read(folder) if (folder / "ledger.jsonl").exists() else History()


def running(folder: Path) -> list[Trial]:
    """Trials that are being trained now, as the ledger has it."""
    return [trial for trial in history_of(folder).trials.values() if trial.state is TrialState.RUNNING]


def drivers(folder: Path) -> int:
    """How many drivers have opened the folder so far."""
    return len(history_of(folder).of(Opened))


def ended(folder: Path) -> int:
    """How many trials are over."""
    return sum(trial.state.ended for trial in history_of(folder).trials.values())


def checkpointed(folder: Path) -> bool:
    """Whether a trial that runs now has a checkpoint to go on from."""
    return any(any(work_of(folder, trial).glob("checkpoint-*.bin")) for trial in running(folder))


def decided(points: Sequence[CurvePoint]) -> Curve:
    """What of a curve must be equal to the last bit."""
    return [tuple(getattr(point, name) for name in DECIDED) for point in points]


def curves(folder: Path) -> Mapping[str, Curve]:
    """The decided part of every trial's curve, by key."""
    return {key: decided(read_curve(folder, key)) for key in history_of(folder).trials}


def laws_of(folder: Path) -> str:
    """The laws that the run folder's records give, in the order of their keys, as JSON."""
    from orchestrator import lawfile
    from orchestrator.collect import collect, collect_curves
    from orchestrator.laws.registry import fit_laws
    from orchestrator.runfolder import RunFolder

    trials = sorted(history_of(folder).trials.values(), key=lambda trial: trial.key)
    records, context = collect(RunFolder(folder), trials)
    fitted = fit_laws(records, curves=collect_curves(RunFolder(folder), trials))
    laws = lawfile.LawSet(context=context, laws=fitted.laws, not_fitted=fitted.not_fitted)
    return json.dumps(lawfile.to_json({None: laws}, with_draws=True), sort_keys=True)


def repeated_tokens(folder: Path) -> int:
    """Tokens that were trained again, of all trials."""
    return sum(trial.result.repeated_tokens for trial in history_of(folder).trials.values() if trial.result)


def recovery_s(folder: Path, fault_time: float, keys: Sequence[str]) -> float | None:
    """Seconds from a fault to the last new start of the trials that it hit; None where it hit none."""
    starts = history_of(folder).of(Started)
    again = [
        min((event.time for event in starts if event.key == key and event.time > fault_time), default=None)
        for key in keys
    ]
    times = [time for time in again if time is not None]
    return max(times) - fault_time if times else None


def faults_of_record(case: Case, folder: Path) -> list[str]:
    """What is wrong with the ledger and the workers' own records; empty if each trial was trained to its end once."""
    history = history_of(folder)
    found = [f"{key}: not ended" for key, trial in history.trials.items() if not trial.state.ended]
    ends = Counter(event.key for event in history.of(Ended) if event.state.ended)
    found += [f"{key}: ended {count} times" for key, count in ends.items() if count != 1]
    for key, trial in history.trials.items():
        attempts = [event.attempt for event in history.of(Started) if event.key == key]
        if attempts != list(range(1, len(attempts) + 1)):
            found.append(f"{key}: attempts {attempts}")
        if trial.state is TrialState.FAILED:
            found.append(f"{key}: failed, {trial.cause}: {trial.message[-200:]}")
        if trial.state is TrialState.COMPLETED:
            reached = _worker_record(case, folder, trial).count(f'{{"tokens":{trial.tokens},')
            if reached != 1:
                found.append(f"{key}: trained to its end {reached} times")
    if len(history.trials) != case.plan.trials:
        found.append(f"{len(history.trials)} trials in the ledger, {case.plan.trials} planned")
    return found


def _worker_record(case: Case, folder: Path, trial: Trial) -> str:
    """What the workers wrote down of a trial: in the run folder, or in storage."""
    from orchestrator.storage.fence import Fence
    from orchestrator.storage.pull import pull
    from orchestrator.storage.store import open_store

    storage = config.load(str(case.file)).storage
    if storage is None:
        return (work_of(folder, trial) / POINTS_FILE).read_text()
    with tempfile.TemporaryDirectory() as place:
        pull(open_store(storage), trial.key, Fence(sys.maxsize, 0), Path(place))
        return (Path(place) / POINTS_FILE).read_text()


def faults_of_mlflow(folder: Path, uri: str | None = None) -> list[str]:
    """What MLflow (without a URI the folder's own) has that ledger and curves have not, or the other way round."""
    from orchestrator.tracking.runs import PARENT_TAG, STATUS, SWEEP_TAG, TRIAL_TAG
    from orchestrator.tracking.store import connect, store_uri

    history = history_of(folder)
    first = history.first_opened
    client = connect(store_uri(uri, folder))
    experiments = [
        str(each.experiment_id)
        for each in client.search_experiments()
        if first is not None and each.tags.get(SWEEP_TAG) == first.sweep_id
    ]
    runs = list(client.search_runs(experiments, max_results=5000)) if experiments else []
    found = [f"run {run.info.run_name} is RUNNING" for run in runs if run.info.status == "RUNNING"]
    trials = history.trials
    of_trials = Counter(run.data.tags[TRIAL_TAG] for run in runs if TRIAL_TAG in run.data.tags)
    if of_trials != Counter(trials.keys()):
        found.append(f"{of_trials.total()} runs of {len(of_trials)} keys, {len(trials)} trials in the ledger")
    parents = [run for run in runs if PARENT_TAG not in run.data.tags]
    if len(parents) != 1 or len(experiments) != 1:
        found.append(f"{len(parents)} parent runs in {len(experiments)} experiments")
    for run in runs:
        trial = trials.get(run.data.tags.get(TRIAL_TAG, ""))
        if trial is None:
            continue
        # A driver that leaves marks the runs of unfinished trials as killed, until they go on.
        if run.info.status != (STATUS[trial.state] if trial.state.ended else "KILLED"):
            found.append(f"{trial.key}: {run.info.status} in MLflow, {trial.state} in the ledger")
        stored = [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")]
        if sorted(stored) != [(point.tokens, point.loss) for point in read_curve(folder, trial.key)]:
            found.append(f"{trial.key}: {len(stored)} losses in MLflow are not the curve's")
    return found


def faults_of_studies(case: Case, folder: Path, uri: str) -> list[str]:
    """What the Optuna database has that the ledger has not, or the other way round."""
    import optuna

    from orchestrator.proposals.mirror import TRIAL_KEY, open_storage

    storage, found, history = open_storage(uri), [], history_of(folder)
    sweep_id = history.first_opened.sweep_id if history.first_opened else ""
    for search in case.plan.searches:
        study = optuna.load_study(study_name=f"{case.plan.name}-{sweep_id} {search.name}", storage=storage)
        mirrored = sorted((each.user_attrs[TRIAL_KEY], each.value) for each in study.trials)
        expected = sorted((trial.key, trial.loss) for trial in history.trials.values() if trial.of(search))
        if mirrored != expected:
            found.append(f"{search.name}: {len(mirrored)} trials in Optuna are not the {len(expected)} of the ledger")
    return found


def work_of(folder: Path, trial: Trial) -> Path:
    """Where a trial's worker writes, when the run folder is shared."""
    return trial_folder(folder, trial.key) / "work"


def trained_otherwise(case: Case, folder: Path, alone: Path) -> list[str]:
    """Keys whose curve is not that of the same key trained alone, in this process."""
    from orchestrator.engine.local import LocalPool

    found, trials = curves(folder), history_of(folder).trials
    pool = LocalPool(trainer=config.load(str(case.file)).trainer_ref(), slots=1)
    pool.start()
    try:
        return [key for key, trial in trials.items() if found[key] != decided(_train_alone(pool, case, trial, alone))]
    finally:
        pool.close()


def _train_alone(pool: WorkerPool, case: Case, trial: Trial, folder: Path) -> list[CurvePoint]:
    sweep = config.load(str(case.file))
    spec = spec_of(trial, case.plan.search_of(trial.scale, trial.tokens))
    pool.submit(
        Assignment(spec=spec, attempt=1, resources=sweep.resources_of(trial.scale), workspace=folder / trial.key)
    )
    points: list[CurvePoint] = []
    while True:
        for event in pool.wait(1.0):
            if isinstance(event, PointsArrived):
                points += event.points
            if isinstance(event, AttemptEnded):
                return points
