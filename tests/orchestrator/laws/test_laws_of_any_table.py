"""Whatever a table has or has not: each law is fitted, or there is a reason why not."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.laws.records import CANONICAL_COLUMNS, RunRecord
from orchestrator.laws.registry import NAMES, fit_laws
from orchestrator.laws.result import Status

COLUMNS = [name for name in CANONICAL_COLUMNS if name not in {"run_id", "status"}]


def table(*, scales, ratios, trials, points, seed=0):
    """Runs of random settings with every column there is."""
    rng = np.random.default_rng(seed)
    records = []
    for params in 1e6 * 2.0 ** np.arange(scales):
        for ratio in ratios:
            for trial in range(trials):
                rate, batch = 3e-3 * math.exp(rng.uniform(-1.5, 1.5)), float(2 ** rng.integers(10, 16))
                epochs = float(rng.choice([1.0, 8.0]))
                for tokens in params * ratio * 2.0 ** np.arange(1 - points, 1):
                    floor = 1.8 + 2 * (params / 1e6) ** -0.3 + 1.5 * (tokens / 1e7) ** -0.3
                    loss = floor * math.exp(0.02 * math.log(rate / 3e-3) ** 2 + 0.003 * rng.standard_normal())
                    records.append(
                        RunRecord(
                            run_id=f"{params:g} {ratio} {trial}",
                            params=params,
                            non_embedding_params=0.8 * params,
                            tokens=tokens,
                            flops=6 * params * tokens,
                            loss=loss,
                            learning_rate=rate,
                            batch_tokens=batch,
                            beta2=1 - 10 ** -rng.uniform(1, 3),
                            steps=tokens / batch,
                            seed=trial,
                            schedule="constant",
                            warmup_tokens=params / 4,
                            unique_tokens=params * ratio / epochs,
                            error=0.9 - math.exp(-loss / 2),
                            group="a",
                        )
                    )
    return records


def check(records):
    report = fit_laws(records, draws=20)
    assert set(report.laws) | set(report.not_fitted) == set(NAMES)
    assert not set(report.laws) & set(report.not_fitted)
    assert all(reason and "\n" not in reason for reason in report.not_fitted.values())
    assert all(law.reason for law in report.laws.values() if law.status is not Status.OK)
    return report


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    missing=st.sets(st.sampled_from(COLUMNS), max_size=12),
    scales=st.sampled_from([1, 2, 3]),
    ratios=st.sampled_from([(20,), (10, 40)]),
    trials=st.sampled_from([1, 3, 6]),
    points=st.sampled_from([1, 3]),
)
def test_any_columns_may_be_missing(missing, scales, ratios, trials, points):
    whole = table(scales=scales, ratios=ratios, trials=trials, points=points)
    check([replace(record, **dict.fromkeys(missing)) for record in whole])


@pytest.mark.parametrize(
    "broken",
    [
        {"loss": math.nan},
        {"loss": -1.0, "tokens": 0.0},
        {"status": "diverged", "loss": None},
        {"status": "failed", "loss": None},
        {"unique_tokens": None, "error": None, "batch_tokens": None},
        {"params": math.inf},
    ],
    ids=lambda broken: ", ".join(f"{name} {value}" for name, value in broken.items()),
)
def test_some_rows_may_be_of_no_use(broken):
    whole = table(scales=3, ratios=(10, 40), trials=2, points=3)
    check([replace(record, **broken) if number % 4 == 0 else record for number, record in enumerate(whole)])


def test_no_rows_and_equal_losses_are_no_laws_with_a_reason():
    assert not check([]).laws
    check([replace(record, loss=3.0) for record in table(scales=3, ratios=(20,), trials=2, points=2)])
