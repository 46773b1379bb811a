from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.law_sources import Readers, Runs, groups, load, with_noise
from orchestrator.laws.predict import Context
from orchestrator.laws.records import RunRecord
from orchestrator.laws.result import FittedLaw
from orchestrator.tables.reader import BatchUnit, ParamsCount, TableOptions
from search_spaces.errors import InputError

RECORDS = (
    RunRecord(run_id="a", params=1e6, tokens=2e7, loss=4.0, batch_tokens=8.0, learning_rate=1e-3, seed=1, group="x"),
    RunRecord(run_id="b", params=1e6, tokens=8e7, loss=3.5, batch_tokens=8.0, learning_rate=1e-3, seed=2, group="y"),
)


@dataclass
class Recorded:
    """Readers that give fixed records and remember what they were asked for."""

    asked: list[object] = field(default_factory=list)

    @property
    def readers(self) -> Readers:
        return Readers(run_folder=self._run_folder, experiment=self._experiment)

    def _run_folder(self, path: Path) -> Runs:
        self.asked.append(path)
        return Runs(records=RECORDS, context=Context(tokenizer="bytes"))

    def _experiment(self, name: str, columns: Mapping[str, str]) -> list[RunRecord]:
        self.asked.append((name, dict(columns)))
        return list(RECORDS)


def test_a_folder_is_a_run_folder(tmp_path):
    source = Recorded()

    runs = load(str(tmp_path), TableOptions(where="seed == 2"), source.readers)

    assert source.asked == [tmp_path]
    assert [record.run_id for record in runs.records] == ["b"]
    assert runs.context.tokenizer == "bytes"


def test_a_run_folder_knows_its_own_units(tmp_path):
    with pytest.raises(InputError, match="--seq-len is for tables"):
        load(str(tmp_path), TableOptions(sequence_length=8), Recorded().readers)


def test_an_experiment_is_read_with_the_columns_and_units(tmp_path):
    source = Recorded()
    options = TableOptions(
        columns={"learning_rate": "params.lr"},
        batch_unit=BatchUnit.SEQUENCES,
        sequence_length=128,
        params_count=ParamsCount.NON_EMBEDDING,
    )

    runs = load("mlflow:my sweep", options, source.readers)

    assert source.asked == [("my sweep", {"learning_rate": "params.lr"})]
    assert runs.records[0].batch_tokens == 1024
    assert runs.records[0].flops == 6 * 1e6 * 2e7
    assert (runs.context.params_count, runs.context.flops_count) == ("non_embedding", "kaplan")
    assert runs.context.sequence_length == 128


def test_an_experiment_is_grouped_by_its_own_names():
    source = Recorded()
    options = TableOptions(group="tags.team")

    parts = groups(load("mlflow:x", options, source.readers), options)

    assert source.asked == [("x", {"group": "tags.team"})]
    assert list(parts) == ["x", "y"]


def test_a_table_describes_its_context(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "run_id,params,tokens,loss,learning_rate,schedule\na,1e6,1e6,5,1e-3,cosine\na,1e6,2e7,4,1e-3,cosine\n"
        "b,1e6,8e7,3.5,1e-3,cosine\n"
    )

    context = load(str(path), TableOptions(), Recorded().readers).context

    assert context.tokens_per_param == (20, 80)
    assert context.schedule == "cosine"
    assert context.params_count == "standard"
    assert context.noise_sd is None


def test_replicates_in_a_table_give_the_noise(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("params,tokens,loss,learning_rate,seed\n1e6,2e7,4.00,1e-3,1\n1e6,2e7,4.04,1e-3,2\n")

    context = load(str(path), TableOptions(), Recorded().readers).context

    assert context.noise_sd == pytest.approx(0.01 / 2**0.5, rel=0.01)


def test_groups_have_their_own_records_and_ranges():
    options = TableOptions(group="group")

    parts = groups(Runs(records=RECORDS, context=Context(tokenizer="bytes")), options)

    assert [part.context.tokens_per_param for part in parts.values()] == [(20, 20), (80, 80)]
    assert {part.context.tokenizer for part in parts.values()} == {"bytes"}


def test_a_group_without_a_value_is_refused():
    with pytest.raises(InputError, match="no run has a value"):
        groups(Runs(records=(RunRecord(run_id="a"),), context=Context()), TableOptions(group="schedule"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TableOptions(where="lr > 1"), "no column 'lr'"),
        (TableOptions(where="loss > 9"), "leaves none of 2 points"),
        (TableOptions(group="sched"), "did you mean 'schedule'"),
    ],
)
def test_run_folders_are_narrowed_by_canonical_columns_only(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        load(str(tmp_path), options, Recorded().readers)


def test_without_replicates_the_scatter_about_the_surface_is_the_noise():
    law = FittedLaw(name="hyperparameters", form="", parameters={}, tables={"optima": [{"noise": 0.01}]})

    assert with_noise(Context(), {"hyperparameters": law}).noise_sd == 0.01
    assert with_noise(Context(noise_sd=0.002), {"hyperparameters": law}).noise_sd == 0.002
    assert with_noise(Context(), {}).noise_sd is None
