"""Tables as people have them: each ends with laws or with one clear message, never with a traceback."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import cli

LAWS = ("hyperparameters", "chinchilla", "frontier", "isoflop-akima")
COLUMNS = ("params", "tokens", "loss", "learning_rate", "batch_tokens", "beta2", "steps", "flops", "run_id", "status")


def planted(**changes) -> list[dict[str, object]]:
    """A small honest sweep: 5 sizes, 2 horizons, 6 settings each; `changes` map a column to a function of a row."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for params in 1e6 * 2.0 ** np.arange(5):
        for ratio in (8, 32):
            for _ in range(6):
                away, batch = rng.uniform(-1.3, 1.3), 8192 * 2.0 ** rng.integers(-2, 3)
                floor = 1.8 + 400 / params**0.35 + 2000 / (params * ratio) ** 0.37
                loss = floor * np.exp(0.02 * away**2 + 0.01 * np.log(batch / 8192) ** 2 + 0.002 * rng.standard_normal())
                rows.append(
                    {
                        "params": params,
                        "tokens": params * ratio,
                        "loss": loss,
                        "learning_rate": 3e-3 * np.exp(away),
                        "batch_tokens": batch,
                        "steps": params * ratio / batch,
                    }
                )
    for number, row in enumerate(rows):
        row |= {column: change(number, row) for column, change in changes.items()}
    return rows


def csv(rows, separator=",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def fitted(path: Path, *more: str) -> tuple[int, str, str]:
    """The exit code of `fit` and what it said."""
    named = [part for name in LAWS for part in ("--law", name)]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.main(["fit", str(path), *(more or named)])
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("params,tokens,loss", "it has no rows"),
        ("params,tokens,loss\n", "a header and no rows"),
        (csv(planted(), ";"), "separated by semicolons"),
        (csv(planted(), ";").replace(".", ","), "separated by semicolons"),
        (csv(planted(), "\t"), "separated by tabs"),
        (csv(planted()).encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        ("n\xe4me,loss\n1,2\n".encode("latin-1"), "it is not UTF-8 (byte 1 is 0xe4); save it as UTF-8"),
        (bytes(range(256)), "it is not UTF-8"),
        (csv(planted()) + "1,2\n", "Expected 6 columns, got 2"),
        (csv(planted()) + '"1,2,3,4,5\n', "cannot be read as a table"),
        (csv(planted(loss=lambda n, r: "3.1 nats" if n == 2 else r["loss"])), "row 3, column 'loss' is '3.1 nats'"),
        (csv(planted(params=lambda n, r: "7B")), "row 1, column 'params' is '7B', not a number"),
        (csv(planted(loss=lambda n, r: -r["loss"])), "60 of 60 runs are left out, 'row 1' since loss is -"),
        (csv(planted(loss=lambda n, r: "nan")), "'row 1' since loss is nan"),
        (csv(planted(loss=lambda n, r: 1e300)), "loss is 1e+300, beyond anything trained"),
        (csv(planted(tokens=lambda n, r: r["tokens"] / 1e9)), "tokens is 0.008, beyond anything trained"),
        (csv(planted(params=lambda n, r: r["params"] * 1e9)), "tokens is less than 1e-06 of params"),
        (csv(planted(batch_tokens=lambda n, r: r["batch_tokens"] / 256)), "--batch-unit sequences --seq-len 256"),
        (csv(planted(run_id=lambda n, r: "a")), "'a' has rows with params 1e+06 and 2e+06"),
        (csv(planted(status=lambda n, r: "fine")), "status is 'fine'; it must be completed, diverged or failed"),
        (csv(planted(status=lambda n, r: "failed")), "failed: it has no measurement"),
        (csv(planted(seed=lambda n, r: "inf")), "column 'seed' is inf; give a whole number"),
        (csv(planted()).replace("loss", "Loss", 1), "its column 'Loss' is nearly 'loss'"),
        ("loss,params,tokens,loss\n3,1,2,3\n", "it has 2 columns 'loss'"),
        (csv(planted()[:1]), "no law can be fitted"),
        (csv(planted()[:1] * 40), "no law can be fitted"),
    ],
)
def test_a_table_that_says_nothing_gets_one_message(tmp_path, text, message):
    path = tmp_path / "runs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    code, out, err = fitted(path)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": lambda n, r: -2 if n == 3 else r["loss"]}, "1 loss is -2, not a positive finite number"),
        ({"loss": lambda n, r: "nan" if n == 3 else r["loss"]}, "1 loss is nan"),
        ({"loss": lambda n, r: 1e300 if n == 3 else r["loss"]}, "1 loss is 1e+300, beyond anything trained"),
        ({"params": lambda n, r: 0 if n == 3 else r["params"]}, "1 params is 0, not a positive finite number"),
        ({"params": lambda n, r: 1e300 if n == 3 else r["params"]}, "1 params is 1e+300, beyond anything trained"),
        (
            {"learning_rate": lambda n, r: -1 if n == 3 else r["learning_rate"]},
            "learning_rate is taken as not known in",
        ),
        ({"learning_rate": lambda n, r: 1e300 if n == 3 else r["learning_rate"]}, "1e+300 cannot be"),
        ({"beta2": lambda n, r: (0.9, 0.99, 0.999, 0.9999999999999999)[n % 4]}, "beta2 is taken as not known in 15 of"),
        ({"flops": lambda n, r: -1}, "flops is taken as not known in all 60 rows: -1 cannot be"),
        ({"params": lambda n, r: 1e6}, "1 scale; 5 or more are wanted"),
        ({"batch_tokens": lambda n, r: r["batch_tokens"] / (256 if n % 2 else 1)}, "batch_tokens is not used in 30 of"),
        ({"run_id": lambda n, r: f"run {n // 2}"}, "30 of 60 rows repeat the tokens of another row of the same run"),
        ({"loss": lambda n, r: 3.0}, "A is zero: these points do not identify it"),
        ({"status": lambda n, r: "diverged" if n % 6 == 0 else "completed"}, "10 diverged: its loss is no measurement"),
    ],
)
def test_what_is_left_out_is_listed(tmp_path, changes, said):
    path = tmp_path / "runs.csv"
    path.write_text(csv(planted(**changes)))

    code, out, err = fitted(path, "--law", "hyperparameters", "--law", "chinchilla")

    assert code == 0
    assert said in " ".join((out + err).split())


def test_repeated_rows_are_left_out_and_said(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(csv(planted() * 2))

    code, out, err = fitted(path, "--law", "chinchilla")

    assert code == 0
    assert "60 repeated rows are left out (row 61 repeats row 1)" in err
    assert "60 runs" in out


NUMBERS = st.one_of(
    st.floats(1, 1e10),
    st.floats(0.5, 10),
    st.sampled_from([0, -1, 1e300, 1e-300, 0.95, 0.999, 1, 3.0, 1e6, 2e6, 1e7, 2e7]),
    st.floats(allow_nan=True, allow_infinity=True),
).map(repr)
CELLS = st.one_of(
    NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["", "NA", "a", "completed", "diverged", "7B", "1,5", '"'])
)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_table_ends_with_laws_or_one_message(tmp_path_factory, data):
    wanted = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=8, unique=data.draw(st.booleans())))
    clean = data.draw(st.booleans())
    cells = NUMBERS if clean else CELLS
    rows = data.draw(st.lists(st.lists(cells, min_size=len(wanted), max_size=len(wanted)), max_size=14))
    path = tmp_path_factory.mktemp("ugly") / "runs.csv"
    path.write_text("\n".join([",".join(wanted), *(",".join(row) for row in rows)]) + "\n")

    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.main(["fit", str(path)])

    assert code in {0, 2}
    assert code == 0 or (out.getvalue() == "" and err.getvalue().count("\n") == 1)


@settings(max_examples=5, deadline=None)
@given(st.data())
def test_a_sweep_with_some_wrong_cells_ends_with_laws_or_one_message(tmp_path_factory, data):
    rows = planted()
    for _ in range(data.draw(st.integers(1, 6))):
        row = rows[data.draw(st.integers(0, len(rows) - 1))]
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(NUMBERS)
    path = tmp_path_factory.mktemp("ugly") / "runs.csv"
    path.write_text(csv(rows))

    code, out, err = fitted(path, "--law", "chinchilla", "--law", "frontier")

    assert code in {0, 2}
    assert code == 0 or (out == "" and err.count("\n") == 1)
