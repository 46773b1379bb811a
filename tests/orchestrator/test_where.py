import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.where import check_names, parse_where
from search_spaces.errors import InputError

ROW = {"params": 1e9, "tokens": 2e10, "config": "tuned", "metrics.loss": 2.5, "seed": None, "in_list": 3.0}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("params > 1e8", True),
        ("params > 1e8 and tokens < 1e9", False),
        ("params < 1 or config == 'tuned'", True),
        ("not config == 'tuned'", False),
        ("config in ('a', 'tuned')", True),
        ("config not in ['a', 'tuned']", False),
        ("1e8 < params <= 1e9", True),
        ("1e9 < params <= 1e10", False),
        ("tokens / params > 20 - 1", True),
        ("(params + 1) * 2 > -tokens", True),
        ("metrics.loss < 2.6", True),
        ("seed == None", True),
        ("seed != None", False),
        ("seed > 0", False),
        ("seed + 1 < 5", False),
        ("not seed > 0", True),
        ("config != 'base'", True),
        ("  params > 0  ", True),
    ],
)
def test_expressions_mean_what_they_say(text, kept):
    assert parse_where(text).test(ROW) is kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is no expression"),
        ("params >", "it is no expression"),
        ("params = 3", "it is no expression"),
        ("params", "params is not a comparison"),
        ("__import__('os').system('x') == 0", "is not understood"),
        ("(lambda: 1)() == 1", "is not understood"),
        ("().__class__ == 1", "is not a column name"),
        ("params[0] == 1", "is not understood"),
        ("params ** 9 > 1", "is not understood"),
        ("[p for p in (1, 2)] == 1", "is not understood"),
        ("params is 3", "is compared in a way that is not known"),
        ("params == True", "is not a value that a table has"),
        ("config in 'tuned'", "must be a list after `in`"),
        ("-" * 100 + "params > 1", "nested deeper"),
        ("(" * 300 + "params" + ")" * 300 + " > 1", "it is no expression"),
    ],
)
def test_what_is_not_understood_is_refused(text, message):
    with pytest.raises(InputError, match="--where") as error:
        parse_where(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config > 3", "'tuned' is text where a number is needed"),
        ("config == 3", "are a text and a number"),
        ("params in ('tuned',)", "are a text and a number"),
        ("config + 1 > 3", "'tuned' is text"),
        ("params / 0 > 3", "division by zero"),
        ("params > '1e8'", "'1e8' is text"),
    ],
)
def test_numbers_and_texts_are_not_mixed(text, message):
    with pytest.raises(InputError) as error:
        parse_where(text).test(ROW)
    assert message in str(error.value)


def test_columns_that_are_read_are_known():
    assert parse_where("tokens / params > 5 and metrics.loss < 3").names == ("metrics.loss", "params", "tokens")


def test_column_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"no column 'parms'; did you mean 'params'"):
        check_names(parse_where("parms > 1"), ["params", "tokens"])


NUMBERS = st.floats(-1e6, 1e6).map(repr) | st.sampled_from(["a", "b", "c"])
ARITHMETIC = st.recursive(
    NUMBERS,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda text: f"(-{text})")
    ),
    max_leaves=5,
)
COMPARISONS = st.tuples(ARITHMETIC, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), ARITHMETIC).map(" ".join)
CHAINS = st.tuples(ARITHMETIC, COMPARISONS).map(" < ".join)
MEMBERS = st.tuples(ARITHMETIC, st.sampled_from(["in", "not in"]), st.lists(NUMBERS, max_size=3)).map(
    lambda parts: f"{parts[0]} {parts[1]} [{', '.join(parts[2])}]"
)
EXPRESSIONS = st.recursive(
    COMPARISONS | CHAINS | MEMBERS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda text: f"(not {text})")
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(text=EXPRESSIONS, values=st.tuples(*[st.floats(-1e6, 1e6)] * 3))
def test_expressions_agree_with_python(text, values):
    row = dict(zip("abc", values, strict=True))
    expected = eval(compile(ast.parse(text, mode="eval"), "where", "eval"), {}, row)  # noqa: S307  our own text

    assert parse_where(text).test(row) is expected


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_is_an_expression_or_an_input_error(text):
    try:
        where = parse_where(text)
    except InputError:
        return
    assert isinstance(where.names, tuple)
