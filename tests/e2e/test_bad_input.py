"""Wrong input, as a user gives it: exit code 2, one message, and nothing is started or written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from shell import listing, scalesweep, write_sweep

from orchestrator.ledger import Closed, Ledger, read
from orchestrator.runfolder import RunFolder

LM_SCALE = {"name": "s1", "depth": 1, "width": 8, "ffn_width": 16, "heads": 2, "vocab_size": 256, "sequence_length": 16}


def refused(*arguments: str | Path, cwd: Path) -> str:
    """The message of a verb that is refused; what is in the folder stays as it was."""
    before = listing(cwd)
    shown = scalesweep(*arguments, cwd=cwd)
    assert shown.returncode == 2, shown
    (message,) = shown.stderr.splitlines()
    assert message.startswith("scalesweep: ")
    assert listing(cwd) == before
    return message


def lm_sweep(folder: Path, **changes: Any) -> Path:
    """Two trials of 4,480 tokens on folder/text.txt; the prepared data lies outside."""
    data = folder.parent / f"{folder.name}-data"
    trainer = {"name": "lm", "corpus": "text.txt", "data_dir": str(data), "validation_tokens": 256}
    content = {
        "name": "words",
        "ladder": [LM_SCALE],
        "tokens_per_param": [2],
        "trials": 1,
        "space": {"learning_rate": 0.01, "batch_size": 4, "beta2": 0.95},
        "sampler": "random",
        "trainer": trainer | changes,
        "cluster": {"address": "in-process", "workers": 1},
    }
    return write_sweep(folder, content)


def words(count: int, seed: int = 0) -> str:
    """Text that does not repeat itself."""
    return " ".join(str((number * 7919 + seed) % 10007) for number in range(count))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trails": 3}, "unknown key 'trails'; did you mean 'trials'?"),
        ({"space": {"learning_rate": -0.1}}, "space.learning_rate is -0.1; it should be greater than 0"),
        ({"space": {"beta2": 1.0}}, "space.beta2 is 1.0; it should be less than 1"),
        ({"space": {"batch_size": {"low": 1, "high": 1024}}}, "lower batch_size.high or raise tokens_per_param"),
        ({"ladder": [tiny.ladder(1)[0] | {"heads": 3}]}, "3 heads do not divide a width of 8"),
        ({"trials": "many"}, "trials is 'many'; it should be a whole number"),
        ({"trainer": {"name": "synthetic", "noise": 1}}, "unknown key 'noise'; did you mean 'noise_sd'?"),
        ({"name": "../elsewhere"}, "name is '../elsewhere'; it should be 1 to 64 letters"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_wrong_sweep_file(tmp_path: Path, verb: str, changes: dict[str, Any], message: str) -> None:
    assert message in refused(verb, write_sweep(tmp_path, tiny.content() | changes), cwd=tmp_path)


def test_an_unknown_sweep(tmp_path: Path) -> None:
    said = refused("run", "labtop", cwd=tmp_path)
    assert "there is no sweep file 'labtop'" in said
    assert "did you mean 'laptop'?" in said


def test_a_wrong_override(tmp_path: Path) -> None:
    assert "trials is 'x'" in refused("plan", "laptop", "--set", "trials=x", cwd=tmp_path)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (b"", {}, "corpus 'text.txt' is too small: 0 documents with 0 bytes"),
        (b"caf\xe9 \xff\xfe", {}, "text.txt cannot be read as UTF-8 text"),
        (words(20).encode(), {}, "corpus 'text.txt' is too small: 1 documents"),
        (words(2000).encode(), {"corpus": "text.jsonl"}, "corpus 'text.jsonl': no such file"),
    ],
    ids=["empty", "unreadable", "too small for a held-out set", "not there"],
)
def test_a_corpus_that_does_not_do(tmp_path: Path, text: bytes, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "text.txt").write_bytes(text)
    assert message in refused("run", lm_sweep(tmp_path, **changes), cwd=tmp_path)


def test_a_corpus_with_too_few_tokens_for_the_plan(tmp_path: Path) -> None:
    many_documents(tmp_path, "text")
    said = refused("run", lm_sweep(tmp_path, corpus="text"), "--set", "tokens_per_param=[20]", cwd=tmp_path)
    assert "tokens are wanted and corpus 'text' has" in said
    assert "or epochs: " in said


def many_documents(folder: Path, name: str, seed: int = 0) -> None:
    """About 20,000 bytes in 400 files: each gives a few bytes of the held-out set."""
    (folder / name).mkdir(exist_ok=True)
    for number in range(400):
        (folder / name / f"{number}.txt").write_text(words(10, seed=seed + number * 31))


def test_a_corpus_that_changed_since_the_run_folder_was_made(tmp_path: Path) -> None:
    many_documents(tmp_path, "text")
    sweep = lm_sweep(tmp_path, corpus="text")
    first = scalesweep("run", sweep, cwd=tmp_path)
    assert first.returncode == 0, first
    many_documents(tmp_path, "text", seed=5)
    said = refused("run", sweep, cwd=tmp_path)
    assert "the corpus, the tokenizer or the trainer has changed since" in said
    assert "put it back, or choose another folder with --dir" in said


def test_the_run_folder_of_another_sweep(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").path.mkdir()
    RunFolder(tmp_path / "run").keep(tiny.sweep())
    other = write_sweep(tmp_path, tiny.content(trials=5, seed=2))
    said = refused("run", other, "--dir", "run", cwd=tmp_path)
    assert "run holds a sweep with another trials, seed" in said


def test_a_second_driver_on_the_same_folder(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, tiny.content())
    with Ledger.open(tmp_path / "run"):
        said = refused("run", sweep, "--dir", "run", cwd=tmp_path)
    assert "run is in use by another driver (process " in said
    assert "choose another folder with --dir" in said


def test_a_damaged_ledger(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, tiny.content())
    with Ledger.open(tmp_path / "run") as ledger:
        ledger.append(Closed(time=1.0, how="done"))
    path = tmp_path / "run" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"done", b"dome"))
    assert "ledger.jsonl: line 1 is damaged" in refused("run", sweep, "--dir", "run", cwd=tmp_path)


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, tiny.content())
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in refused("run", sweep, "--dir", "file/run", cwd=tmp_path)


def test_no_room_for_a_trial_in_this_process(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, tiny.content(resources={"s3": {"gpus": 1}}))
    said = refused("run", sweep, "--dir", "deep/er/run", cwd=tmp_path)
    assert "resources of scale 's3': one trial wants cpus: 1, gpus: 1; the nodes are 1 with cpus: 2, gpus: 0" in said


def test_no_room_for_a_trial_on_any_node(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, tiny.content(resources={"s3": {"cpus": 4096}}, cluster={"address": "local"}))
    said = refused("run", sweep, cwd=tmp_path)
    assert "resources of scale 's3': one trial wants cpus: 4096, gpus: 0; the nodes are 1 with" in said


def test_a_tracking_address_that_mlflow_does_not_know(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, tiny.content(tracking={"uri": "ftp://host"}))
    assert "the tracking address is 'ftp://host'; give an MLflow server" in refused("run", sweep, cwd=tmp_path)


@pytest.mark.parametrize("verb", ["status", "stop", "sync"])
def test_a_folder_that_is_no_run_folder(tmp_path: Path, verb: str) -> None:
    assert "is not a run folder" in refused(verb, "nowhere", cwd=tmp_path)


def test_a_pause_where_no_driver_runs(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").path.mkdir()
    RunFolder(tmp_path / "run").keep(tiny.sweep())
    assert "there is nothing to pause" in refused("pause", "run", cwd=tmp_path)


# Command trainers


def command_sweep(folder: Path, command: str) -> Path:
    return write_sweep(folder, tiny.content(scales=1, trials=4, replicates=1, trainer={"command": command}))


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    said = refused("run", command_sweep(tmp_path, "no-such-program --lr {learning_rate}"), cwd=tmp_path)
    assert "no-such-program" in said


def test_a_command_with_an_unknown_placeholder(tmp_path: Path) -> None:
    said = refused("plan", command_sweep(tmp_path, "train --lr {learning_rat}"), cwd=tmp_path)
    assert "unknown placeholder {learning_rat}; did you mean {learning_rate}?" in said


SILENT = ""
NONSENSE = "import os\nopen(os.environ['SCALESWEEP_CURVE'], 'a').write('step 10: loss is fine\\n')\n"
BROKEN = "raise ValueError('no such optimizer')\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (SILENT, "the command ended well, but"),
        (NONSENSE, "line 1 is 'step 10: loss is fine'; expected a line like"),
        (BROKEN, "ValueError: no such optimizer"),
    ],
    ids=["silent", "nonsense", "broken"],
)
def test_a_command_that_measures_nothing(tmp_path: Path, script: str, message: str) -> None:
    """Nothing is wrong with the sweep, so it starts; it ends soon, with what the user's program did."""
    (tmp_path / "train.py").write_text(script)
    shown = scalesweep("run", command_sweep(tmp_path, f"{sys.executable} train.py"), "--dir", "run", cwd=tmp_path)
    assert shown.returncode == 1, shown
    assert message in shown.stdout
    assert "Traceback" not in shown.stderr
    history = read(tmp_path / "run")
    (closed,) = history.of(Closed)
    assert closed.how == "failed"
    assert message in closed.message
    assert sum(trial.attempt for trial in history.trials.values()) <= 4
