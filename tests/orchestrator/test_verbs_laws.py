import ast
import dataclasses
import io
import json
import math
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from orchestrator import cli

DATA = Path(__file__).parents[2].parent / "shared" / "data"
# A planted truth: loss surface, and settings whose optima follow power laws.
E, A, B, ALPHA, BETA = 1.7, 400.0, 600.0, 0.34, 0.30
RATE = (0.5, -0.4, 0.1)
BATCH = (20.0, 0.0, 0.45)


def at(law: tuple[float, float, float], params: float, tokens: float) -> float:
    return law[0] * params ** law[1] * tokens ** law[2]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """16 random settings in each of 15 cells, with 0.1 % of noise."""
    rng = np.random.default_rng(0)
    lines = ["lr,bs,N,D,val_loss,kind"]
    for params in (1e6, 2e6, 4e6, 8e6, 16e6):
        for ratio in (10, 30, 90):
            tokens = params * ratio
            floor = E + A / params**ALPHA + B / tokens**BETA
            for away, off in rng.uniform(-1.3, 1.3, size=(16, 2)):
                loss = floor * math.exp(0.02 * away**2 + 0.01 * off**2 + 0.001 * rng.standard_normal())
                rate = at(RATE, params, tokens) * math.exp(away)
                batch = at(BATCH, params, tokens) * math.exp(off)
                kind = "small" if params < 3e6 else "large"
                lines.append(f"{rate:.8g},{batch / 128:.8g},{params:g},{tokens:g},{loss:.8g},{kind}")
    path = tmp_path_factory.mktemp("tables") / "planted.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


COLUMNS = ["--column", "learning_rate=lr", "batch_size=bs", "params=N", "--column", "tokens=D", "--column"]
NAMED = [*COLUMNS, "loss=val_loss", "--seq-len", "128"]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What one `fit --out` left and said."""

    laws: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def fitted(table) -> Fitted:
    folder = table.parent / "out"
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        assert cli.main(["fit", str(table), *NAMED, "--out", str(folder)]) == 0
    return Fitted(folder / "laws.json", out.getvalue(), err.getvalue())


@pytest.fixture
def laws(fitted) -> Path:
    return fitted.laws


def failed(capsys, *argv: str) -> str:
    """The one message of a command that ends with 2."""
    assert cli.main(list(argv)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_fit_recovers_planted_laws(laws):
    content = json.loads(laws.read_text())

    found = content["laws"]["hyperparameters"]["parameters"]
    planted = {"learning_rate": RATE, "batch_tokens": BATCH}
    for name, (_, params_exponent, tokens_exponent) in planted.items():
        for key, truth in (("params_exponent", params_exponent), ("tokens_exponent", tokens_exponent)):
            estimate = found.get(f"{name}.{key}", {"low": -1e-9, "high": 1e-9})
            assert estimate["low"] < truth < estimate["high"]
    offset = content["laws"]["chinchilla"]["parameters"]["E"]
    assert offset["low"] < E < offset["high"]
    assert content["context"]["sequence_length"] == 128


def test_fit_says_each_law_and_what_it_derived(fitted):
    assert "240 runs, 240 points, N is standard params" in fitted.out
    assert re.search(r"learning_rate = \S+ \[\S+, \S+\] \* params\^-0\.\d+ \[", fitted.out)
    assert re.search(r"^chinchilla +(ok|weak) +E = ", fitted.out, flags=re.MULTILINE)
    assert re.search(r"^not fitted: isoflop, isoflop-akima: needs \S", fitted.out, flags=re.MULTILINE)
    assert fitted.out.count("\n") < 80
    assert max(map(len, fitted.out.splitlines())) <= 118
    assert fitted.err == "note: flops = 6 * params * tokens in all 240 rows\n"


def test_fit_takes_only_the_named_laws(table, capsys):
    assert cli.main(["fit", str(table), *NAMED, "--law", "chinchilla", "--json"]) == 0

    laws = json.loads(capsys.readouterr().out)["laws"]
    assert list(laws) == ["chinchilla"]
    assert "draws" not in laws["chinchilla"]


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("data-constrained", "the column 'unique_tokens'"),
        ("downstream", "the column 'error'"),
        ("envelope", "sizes that are lowest"),
        ("isoflop", "compute budgets with 3 sizes"),
    ],
)
def test_a_named_law_that_the_table_cannot_carry_says_what_it_lacks(table, capsys, name, lacks):
    assert lacks in failed(capsys, "fit", str(table), *NAMED, "--law", name)


def test_a_fit_of_a_table_leaves_no_curves_of_an_older_one(table, tmp_path, capsys):
    (tmp_path / "curves.parquet").write_text("of another sweep")
    assert cli.main(["fit", str(table), *NAMED, "--law", "chinchilla", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "curves.parquet").exists()


def test_fit_writes_laws_with_draws_and_a_page(laws):
    content = json.loads(laws.read_text())

    draws = content["laws"]["hyperparameters"]["draws"]["learning_rate.coefficient"]
    assert len(set(draws)) > 100
    page = (laws.parent / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "planted.csv" in page


def test_groups_are_fitted_apart(table, tmp_path, capsys):
    argv = ["fit", str(table), *NAMED, "--group", "kind", "--law", "hyperparameters", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    assert "== small ==" in capsys.readouterr().out

    written = tmp_path / "laws.json"
    assert sorted(json.loads(written.read_text())["groups"]) == ["large", "small"]
    assert (tmp_path / "report-small.html").is_file()
    assert cli.main(["predict", str(written), "--group", "large", "--params", "32M", "--tokens", "1B"]) == 0
    capsys.readouterr()
    assert "choose one with --group: large, small" in failed(capsys, "predict", str(written), "--params", "1B")
    asked = ("predict", str(written), "--params", "1B", "--group", "lrge")
    assert "no group 'lrge'; did you mean 'large'" in failed(capsys, *asked)


def test_predict_gives_the_planted_settings_within_its_intervals(laws, capsys):
    assert cli.main(["predict", str(laws), "--params", "3.2e7", "--tokens", "960M", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    truth = {
        "learning_rate": at(RATE, 3.2e7, 9.6e8),
        "batch_tokens": at(BATCH, 3.2e7, 9.6e8),
        "loss": E + A / 3.2e7**ALPHA + B / 9.6e8**BETA,
    }
    for name, value in truth.items():
        assert said[name]["low"] < value < said[name]["high"]
        assert said[name]["predictive_low"] <= said[name]["low"]
    assert any("2 times the largest used" in warning for warning in said["warnings"])


def test_predict_prints_both_intervals_and_the_published_rules(laws, capsys):
    assert cli.main(["predict", str(laws), "--params", "32M", "--tokens", "1B", "--target", "sequence_length=256"]) == 0

    said = capsys.readouterr().out
    for part in (
        "interval of one run",
        "learning_rate",
        "Step Law",
        "Hoffmann",
        "the target has 256",
        "of the compute",
    ):
        assert part in said


def test_predict_writes_arguments_that_transformers_knows(laws, capsys):
    argv = ["predict", str(laws), "--params", "32M", "--tokens", "1B", "--format", "transformers"]
    assert cli.main(argv) == 0

    (call,) = (node for node in ast.walk(ast.parse(capsys.readouterr().out)) if isinstance(node, ast.Call))
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    from transformers import TrainingArguments

    assert set(given) <= {each.name for each in dataclasses.fields(TrainingArguments)}
    assert given["learning_rate"] == pytest.approx(at(RATE, 3.2e7, 1e9), rel=0.2)
    assert given["per_device_train_batch_size"] * 128 * given["max_steps"] == pytest.approx(1e9, rel=0.01)


def test_predict_says_what_the_uncertainty_could_cost(laws, capsys):
    for sizes in (["--flops", "1e17"], ["--params", "32M"], ["--tokens", "1B"], ["--params", "32M", "--flops", "1e17"]):
        assert cli.main(["predict", str(laws), *sizes, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        for name in ("settings", "size"):
            cost = said["regret"][name]
            assert 0 <= cost["loss"] < cost["loss_high"] < 0.2
            assert 0 <= cost["compute"] < cost["compute_high"] <= 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give one or two of --params"),
        (["--params", "7Z"], "--params is '7Z'"),
        (["--params", "1B", "--target", "colour=red"], "the context has no 'colour'"),
        (["--params", "1B", "--target", "schedule"], "--target 'schedule': expected key=value"),
        (["--params", "1B", "--group", "x"], "was fitted without groups"),
        (["--params", "1B", "--tokens", "1B", "--flops", "1"], "give two of the three"),
    ],
)
def test_wrong_questions_are_refused(laws, capsys, argv, message):
    assert message in failed(capsys, "predict", str(laws), *argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["absent.csv"], "absent.csv: there is no such file"),
        (["TABLE", "--column", "lr"], "--column 'lr': expected canonical=theirs"),
        (["TABLE", "--column", "loss=val_loss", "loss=lr"], "loss was given before"),
        (["TABLE", *NAMED, "--law", "chinchila"], "did you mean 'chinchilla'"),
        (["TABLE", *NAMED[:-4], "loss=val_loss", "--batch-unit", "sequences"], "needs --seq-len"),
        (["TABLE", "--column", "params=N"], "no law can be fitted"),
        (["TABLE", *NAMED, "--where", "N >"], "it is no expression"),
    ],
)
def test_wrong_fits_are_refused(table, capsys, argv, message):
    assert message in failed(capsys, "fit", *(str(table) if part == "TABLE" else part for part in argv))


def test_an_experiment_without_a_store_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    assert "set MLFLOW_TRACKING_URI" in failed(capsys, "fit", "mlflow:x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_folder_is_refused(tmp_path, capsys):
    assert "is not a run folder" in failed(capsys, "fit", str(tmp_path))


def test_laws_that_cannot_be_written_are_said(table, tmp_path, capsys):
    (tmp_path / "file").write_text("")

    argv = ("fit", str(table), *NAMED, "--law", "hyperparameters", "--out", str(tmp_path / "file"))
    assert cli.main(list(argv)) == 2
    assert "cannot write there" in capsys.readouterr().err


def test_help_needs_nothing_heavy():
    code = "import sys, orchestrator.verbs_laws; print([m for m in ('numpy', 'scipy', 'pyarrow') if m in sys.modules])"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def published(name: str) -> str:
    if not (DATA / name).is_file():
        pytest.skip(f"the published table {name} is not here")
    return str(DATA / name)


def test_chinchilla_points_without_their_five_highest_losses(capsys):
    argv = ["fit", published("chinchilla_points.csv"), "--where", "tokens / params > 0.405", "--law", "chinchilla"]
    assert cli.main([*argv, "--params-count", "total", "--json"]) == 0

    law = json.loads(capsys.readouterr().out)["laws"]["chinchilla"]
    assert law["runs_used"] == 240
    assert law["parameters"]["alpha"]["value"] == pytest.approx(0.34731, abs=1e-4)
    assert law["parameters"]["E"]["value"] == pytest.approx(1.817218, abs=1e-4)


def test_porian_table_by_its_configurations(capsys):
    argv = ["fit", published("porian_isoflop_refinedweb.csv"), "--group", "config", "--law", "isoflop-akima", "--json"]
    assert cli.main(argv) == 0

    groups = json.loads(capsys.readouterr().out)["groups"]
    assert len(groups) == 5
    exponent = groups["tuned-short-const-standard"]["isoflop-akima"]["parameters"]["a"]["value"]
    assert exponent == pytest.approx(0.497, abs=0.003)


def test_step_law_table(capsys):
    argv = ["fit", published("steplaw_dense.csv"), "--column", "loss=loss_smooth", "--params-count", "non_embedding"]
    assert cli.main([*argv, "--law", "hyperparameters", "--json"]) == 0

    content = json.loads(capsys.readouterr().out)
    law = content["laws"]["hyperparameters"]["parameters"]
    assert content["context"]["params_count"] == "non_embedding"
    assert law["learning_rate.params_exponent"]["value"] == pytest.approx(-0.7, abs=0.15)
    assert law["batch_tokens.tokens_exponent"]["value"] == pytest.approx(0.6, abs=0.1)
