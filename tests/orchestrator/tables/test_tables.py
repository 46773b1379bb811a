import pyarrow as pa
import pytest
from pyarrow import parquet

from orchestrator.tables import columns
from orchestrator.tables.reader import BatchUnit, ParamsCount, Table, TableOptions, read_table
from search_spaces.errors import InputError

PLAIN = "params,tokens,loss\n1e6,2e7,4.0\n2e6,4e7,3.5\n"


@pytest.fixture
def read(tmp_path):
    def write_and_read(text: str, **options) -> Table:
        path = tmp_path / "runs.csv"
        path.write_text(text)
        return read_table(path, TableOptions(**options))

    return write_and_read


def refused(read, text: str, **options) -> str:
    with pytest.raises(InputError) as error:
        read(text, **options)
    return str(error.value)


def test_each_row_without_run_id_is_a_run(read):
    first, second = read(PLAIN).records

    assert (first.run_id, first.params, first.tokens, first.loss) == ("row 1", 1e6, 2e7, 4.0)
    assert second.run_id == "row 2"
    assert second.status == "completed"


def test_rows_of_one_run_id_are_one_run(read):
    table = read("run_id,tokens,loss\na,1e6,5\na,2e6,4\nb,1e6,6\n")

    assert [record.run_id for record in table.records] == ["a", "a", "b"]


def test_every_canonical_column_is_read(read):
    header = "run_id,params,non_embedding_params,tokens,flops,loss,learning_rate,batch_tokens,beta2,steps,seed"
    more = ",schedule,warmup_tokens,unique_tokens,error,status,group"
    values = "a,1e6,9e5,2e7,1.2e14,3.5,1e-3,2000,0.99,1e4,7,cosine,1e5,2e7,0.5,Diverged,g"

    (record,) = read(f"{header}{more}\n{values}\n").records

    assert (record.non_embedding_params, record.learning_rate, record.beta2) == (9e5, 1e-3, 0.99)
    assert (record.seed, record.schedule, record.status, record.group) == (7, "cosine", "diverged", "g")
    assert (record.warmup_tokens, record.unique_tokens, record.error, record.steps) == (1e5, 2e7, 0.5, 1e4)


def test_parquet_gives_the_same_as_csv(read, tmp_path):
    rows = {"params": [1_000_000, 2_000_000], "tokens": [20_000_000, 40_000_000], "loss": ["4.0", "3.5"]}
    parquet.write_table(pa.table(rows), tmp_path / "runs.parquet")

    assert read_table(tmp_path / "runs.parquet", TableOptions()).records == read(PLAIN).records


def test_columns_of_other_names_are_mapped(read):
    table = read("N,D,val loss\n1e6,2e7,4\n", columns={"params": "N", "tokens": "D", "loss": "val loss"})

    assert (table.records[0].params, table.records[0].tokens, table.records[0].loss) == (1e6, 2e7, 4.0)


def test_a_mapped_column_goes_before_one_of_the_canonical_name(read):
    assert read("params,loss,smooth\n1e6,5,4\n", columns={"loss": "smooth"}).records[0].loss == 4.0


def test_missing_values_are_none_and_nan_stays(read):
    table = read("params,tokens,loss\n1e6,NA,4\n2e6,,nan\n3e6, 5e7 ,3\n")

    assert [record.tokens for record in table.records] == [None, None, 5e7]
    assert str(table.records[1].loss) == "nan"


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("batch_size", {"sequence_length": 2048}),
        ("batch_size", {"sequence_length": 2048, "batch_unit": BatchUnit.SEQUENCES}),
        ("batch_tokens", {"sequence_length": 2048, "batch_unit": BatchUnit.SEQUENCES}),
        ("bs", {"sequence_length": 2048, "columns": {"batch_size": "bs"}}),
    ],
)
def test_batches_in_sequences_become_tokens(read, header, options):
    assert read(f"loss,{header}\n4,64\n", **options).records[0].batch_tokens == 64 * 2048


@pytest.mark.parametrize(
    ("header", "options"), [("batch_tokens", {}), ("batch_size", {"batch_unit": BatchUnit.TOKENS})]
)
def test_batches_in_tokens_stay(read, header, options):
    assert read(f"loss,{header}\n4,4096\n", **options).records[0].batch_tokens == 4096


def test_batch_size_without_a_sequence_length_is_not_guessed(read):
    table = read("loss,batch_size\n4,64\n")

    assert table.records[0].batch_tokens is None
    assert table.notes == ("batch_size is in sequences and is not used: give --seq-len, the tokens of one sequence",)


@pytest.mark.parametrize("options", [{"batch_unit": BatchUnit.SEQUENCES}, {"columns": {"batch_size": "bs"}}])
def test_sequences_need_their_length(options):
    with pytest.raises(InputError, match="needs --seq-len"):
        TableOptions(**options)


def test_sequence_length_is_positive():
    with pytest.raises(InputError, match="--seq-len is 0"):
        TableOptions(sequence_length=0)


def test_params_count_says_which_column_is_n(read):
    text = "params,non_embedding_params,total_params,loss\n3,2,4,1\n"

    assert read(text).records[0].params == 3
    assert read(text, params_count=ParamsCount.NON_EMBEDDING).records[0].params == 2
    assert read(text, params_count=ParamsCount.TOTAL).records[0].params == 4


def test_params_count_says_what_the_column_params_is(read):
    table = read("params,loss\n3,1\n", params_count=ParamsCount.NON_EMBEDDING)

    assert table.params_count is ParamsCount.NON_EMBEDDING
    assert (table.records[0].params, table.records[0].non_embedding_params) == (3, 3)


def test_the_only_count_is_n_and_that_is_said(read):
    table = read("total_params,loss\n4,1\n")

    assert (table.params_count, table.records[0].params) == (ParamsCount.TOTAL, 4)
    assert table.notes == ("N is total_params, the only count of params in the table",)


def test_where_keeps_rows_by_canonical_and_by_foreign_columns(read):
    text = "N,tokens,loss,config\n1e6,2e7,4,a\n2e6,2e7,3,b\n3e6,2e7,2,b\n"

    table = read(text, columns={"params": "N"}, where="params < 3e6 and config == 'b'")

    assert [(record.run_id, record.params) for record in table.records] == [("row 2", 2e6)]


def test_where_can_leave_out_rows_that_are_no_numbers(read):
    text = "tokens,loss,config\n1e6,4,a\n1e6,broken,b\n"

    assert len(read(text, where="config == 'a'").records) == 1


def test_groups_are_texts_of_any_column(read):
    table = read("loss,config\n4,01\n3,\n2,02\n", group="config")

    assert [record.group for record in table.records] == ["01", "02"]
    assert table.notes == ("1 rows without config are left out",)


def test_repeated_rows_are_left_out_and_said(read):
    table = read("params,loss\n1,4\n2,3\n1,4\n")

    assert len(table.records) == 2
    assert table.notes == ("1 repeated rows are left out (row 3 repeats row 1)",)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("loss\n", {}, "a header and no rows"),
        ("", {}, "it is empty"),
        ("params,tokens,loss", {}, "it has no rows"),
        ("params;tokens;loss\n1e6;2e7;3\n", {}, "separated by semicolons; save it with commas"),
        ("params\ttokens\tloss\n1e6\t2e7\t3\n", {}, "separated by tabs"),
        ("params,tokens,Loss\n1e6,2e7,3\n", {}, "its column 'Loss' is nearly 'loss'; rename it"),
        ("params, tokens,loss\n1e6,2e7,3\n", {}, "its column ' tokens' is nearly 'tokens'"),
        ("run_id,params,loss\na,1e6,3\na,2e6,3\n", {}, "'a' has rows with params 1e+06 and 2e+06"),
        ("a,b\n1,2\n", {}, "none of its columns is canonical: it has a, b"),
        ("loss,loss\n1,2\n", {}, "2 columns 'loss'"),
        ("loss,tokens\n1\n", {}, "cannot be read as a table"),
        ("lr,loss\n1,2\n", {"columns": {"learning_rate": "lrr"}}, "no column 'lrr'; did you mean 'lr'"),
        ("lr,loss\n1,2\n", {"group": "los"}, "--group los: it has no column 'los'; did you mean 'loss'"),
        ("lr,loss\n1,2\n", {"where": "los > 1"}, "it has no column 'los'; did you mean 'loss'"),
        ("lr,loss\n1,2\n", {"where": "loss > 5"}, "no row is left"),
        ("lr,loss\n1,2\n", {"where": "loss >"}, "--where 'loss >': it is no expression"),
        ("lr,loss\n1,2\n3,x1\n", {}, "row 2, column 'loss' is 'x1', not a number"),
        ("params,tokens,val\n1,2,3\n4,5,6e\n", {"columns": {"loss": "val"}}, "row 2, column 'val' is '6e'"),
        ("seed,loss\n1.5,2\n", {}, "column 'seed' is 1.5; give a whole number"),
        ("seed,loss\nnan,2\n", {}, "column 'seed' is nan; give a whole number"),
        ("status,loss\nok,2\n", {}, "row 1: run row 1: status is 'ok'"),
        ("total_params,non_embedding_params\n1,2\n", {}, "say which is N with --params-count"),
    ],
)
def test_wrong_tables_get_one_message_with_the_path(read, text, options, message):
    said = refused(read, text, **options)

    assert message in said
    assert "runs.csv: " in said
    assert "\n" not in said


def test_row_numbers_are_those_of_the_file_under_where(read):
    assert "row 3, column 'loss'" in refused(read, "seed,loss\n1,2\n1,3\n2,x\n", where="seed == 2")


def test_unknown_canonical_column_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        TableOptions(columns={"learning_rte": "lr"})


@pytest.mark.parametrize(
    ("name", "message"), [("absent.csv", "no such file"), ("absent.parquet", "no such file"), ("a.txt", "neither CSV")]
)
def test_files_that_are_no_tables_are_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name, TableOptions())


@pytest.mark.parametrize("name", ["damaged.parquet", "damaged.csv", "damaged.csv.gz"])
def test_damaged_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1\x00\xff\xfe\n\x00")

    with pytest.raises(InputError, match=name):
        read_table(tmp_path / name, TableOptions())


@pytest.mark.parametrize(
    ("column", "message"),
    [([True, False], "holds bool"), ([[1], [2]], "holds list<"), ([pa.scalar(1, pa.timestamp("s"))] * 2, "timestamp")],
)
def test_parquet_columns_of_other_kinds_are_refused(tmp_path, column, message):
    parquet.write_table(pa.table({"loss": column}), tmp_path / "runs.parquet")

    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "runs.parquet", TableOptions())


def test_more_rows_than_the_limit_are_refused(tmp_path):
    path = tmp_path / "runs.parquet"
    parquet.write_table(pa.table({"loss": pa.repeat(1.0, columns.MAX_ROWS + 1)}), path)

    with pytest.raises(InputError, match="1000001 rows, and at most 1000000 are read"):
        read_table(path, TableOptions())
