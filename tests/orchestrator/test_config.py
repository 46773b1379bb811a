"""The sweep file: what it may say, what each mistake is told, and that it comes back whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from orchestrator import config
from orchestrator.ports import Resources
from orchestrator.sweep_yaml import ready_sweeps
from search_spaces.axis import Fixed, LogUniform, OneMinusLog, PowersOfTwo
from search_spaces.errors import InputError
from search_spaces.plan import Schedule


def load(folder: Path, text: str, *overrides: str) -> config.SweepFile:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return config.load(str(path), overrides)


MINIMAL = "{name: mine, ladder: laptop}"

WRONG = {
    # Keys
    "nmae: x": "unknown key 'nmae'; did you mean 'name'? known here: name, ladder",
    "zzz: x": "unknown key 'zzz'; known here: name",
    "space: {learning_rtae: 1}": "unknown key 'space.learning_rtae'; did you mean 'learning_rate'?",
    "space: {beta2: {low: 0.9, hgih: 0.99}}": "unknown key 'space.beta2.hgih'; did you mean 'high'? known here: low",
    "resources: {s1: {cpsu: 1}}": "unknown key 'resources.s1.cpsu'; did you mean 'cpus'?",
    "tracking: {url: x}": "unknown key 'tracking.url'; did you mean 'uri'?",
    "trainer: {name: lm, corpsu: x}": "trainer 'lm': unknown key 'corpsu'; did you mean 'corpus'?",
    "trainer: {name: lm, corpus: {hub: x, splt: y}}": "unknown key 'corpus.splt'; did you mean 'split'?",
    "trainer: {name: synthetic, law: {asymetry: 1}}": "unknown key 'law.asymetry'; did you mean 'asymmetry'?",
    "3: 4": "key 3 is no text; put it in quotes",
    # Types
    "trials: many": "trials is 'many'; it should be a whole number",
    "trials: 2.5": "trials is 2.5; it should be a whole number",
    "trials: true": "trials is True; it should be a whole number",
    "tokens_per_param: 20": "tokens_per_param is 20; it should be a list in square brackets",
    "space: 3": "space is 3; it should be a mapping of keys to values",
    "space: {learning_rate: fast}": "space.learning_rate is 'fast'; it should be a valid number",
    "space: {learning_rate: {low: slow, high: 1}}": "space.learning_rate.low is 'slow'; it should be a valid number",
    "backtest: maybe": "backtest is 'maybe'; it should be true or false",
    "sampler: tpee": "sampler is 'tpee'; it should be 'law-guided', 'tpe', 'gp', 'cmaes', 'random' or 'grid'",
    "schedule: linear": "schedule is 'linear'; it should be 'constant', 'cosine' or 'wsd'",
    "cluster: {address: moon}": "cluster.address is 'moon'; it should be local (Ray on this machine), auto",
    "cluster: {address: 'head:0'}": "cluster.address is 'head:0'; it should be local",
    "cluster: {wait_minutes: -1}": "cluster.wait_minutes is -1; it should be greater than or equal to 0",
    "resources: {default: {timeout_minutes: 0}}": "resources.default.timeout_minutes is 0; it should be greater than 0",
    "resources: {default: {labels: {z: [a]}}}": "resources.default.labels.z is ['a']; it should be a valid string",
    "trainer: {name: lm, schedule: cosine}": "trainer.schedule is 'cosine'; give `schedule` beside `trainer`",
    # Ranges
    "trials: 0": "trials is 0; it should be greater than or equal to 1",
    "seed: -1": "seed is -1; it should be greater than or equal to 0",
    "space: {learning_rate: -0.1}": "space.learning_rate is -0.1; it should be greater than 0",
    "space: {learning_rate: {low: -1, high: 1}}": "space.learning_rate.low is -1; it should be greater than 0",
    "space: {learning_rate: {low: 1, high: 0.1}}": "space.learning_rate: low is 1 and high is 0.1; low must be below",
    "space: {learning_rate: .inf}": "space.learning_rate is inf; it should be a finite number",
    "space: {beta2: 1}": "space.beta2 is 1; it should be less than 1",
    "space: {beta2: {low: 0.9, high: 1}}": "space.beta2: the range is 0.9 to 1; both must be in [0, 1)",
    "space: {batch_size: {low: 3, high: 8}}": "space.batch_size: 3 is not a power of two; give 1, 2, 4, 8",
    "space: {batch_size: {low: 1, high: 4096}}": "the largest batch is 524,288 tokens (4096 sequences of 128) and the "
    "shortest cell 215,040; lower batch_size.high or raise tokens_per_param",
    "tokens_per_param: []": "tokens_per_param is []; it should have at least 1 item",
    "tokens_per_param: [-1]": "tokens_per_param.0 is -1; it should be greater than 0",
    "resources: {s1: {gpus: -1}}": "resources.s1.gpus is -1; it should be greater than or equal to 0",
    "cluster: {workers: 0}": "cluster.workers is 0; it should be greater than or equal to 1",
    "trainer: {name: lm, weight_decay: -1}": "trainer 'lm': weight_decay is -1; it should be greater than or equal",
    "trainer: {name: lm, tokenizer: {bpe: 100}}": "tokenizer.bpe is 100; it should be greater than or equal to 257",
    "{sampler: cmaes, space: {learning_rate: 0.01, beta2: 0.9}}": "sampler is 'cmaes' and the space has 1 settings",
    # Names
    "ladder: lapptop": "there is no ladder named 'lapptop'; did you mean 'laptop'?",
    "resources: {s9: {cpus: 1}}": "resources: no scale is named 's9'; known are s1, s2, s3, s4, default",
    "trainer: syntetic": "no trainer is named 'syntetic': give lm, synthetic, command or module:attribute; did you",
    "trainer: {command: 'x {lr}'}": "unknown placeholder {lr}; it knows learning_rate",
}


@pytest.mark.parametrize(("wrong", "message"), list(WRONG.items()), ids=WRONG)
def test_a_mistake_gets_one_clear_message(tmp_path: Path, wrong: str, message: str) -> None:
    content = yaml.safe_load(MINIMAL) | yaml.safe_load(wrong)
    with pytest.raises(InputError) as caught:
        load(tmp_path, yaml.safe_dump(content)).plan()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


SCALE = {"name": "a", "depth": 2, "width": 32, "ffn_width": 64, "heads": 4, "vocab_size": 256, "sequence_length": 64}
WRONG_SCALES = [
    ({"heads": 5}, "scale 'a': 5 heads do not divide a width of 32; choose heads so that width / heads is whole"),
    ({"width": 12}, "width / heads is 3; rotary positions need it even"),
    ({"depth": 0}, "ladder.0.depth is 0; it should be greater than or equal to 1"),
    ({"haeds": 4}, "unknown key 'ladder.0.haeds'; did you mean 'heads'?"),
    ({"architecture": "lama"}, "ladder.0.architecture is 'lama'; it should be 'llama', 'gpt2' or 'qwen3'"),
    ({"name": "../../etc"}, "ladder.0.name is '../../etc'; it should be 1 to 64 letters, digits"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_SCALES)
def test_a_wrong_scale_gets_one_clear_message(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        config.validate({"name": "mine", "ladder": [SCALE | change]}, source="mine.yaml").plan()
    assert message in str(caught.value)


def test_a_misspelt_key_that_is_needed_is_told_as_misspelt() -> None:
    scale = {("hight" if key == "depth" else key): value for key, value in SCALE.items()}
    with pytest.raises(InputError, match=r"unknown key 'ladder\.0\.hight'"):
        config.validate({"name": "mine", "ladder": [scale]}, source="mine.yaml")
    with pytest.raises(InputError, match="key 'ladder' is missing; add it"):
        config.validate({"name": "mine"}, source="mine.yaml")


@pytest.mark.parametrize("name", ["", "../up", "/etc", "a/b", "a\\b", ".hidden", "-flag", "a b", "a\n", "é", "x" * 65])
def test_a_name_cannot_leave_the_run_folder(name: str) -> None:
    with pytest.raises(InputError, match=r"name is .*it should be 1 to 64 letters"):
        config.validate({"name": name, "ladder": "laptop"}, source="mine.yaml")


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3", "'1e-3'"])
def test_numbers_may_be_written_as_people_do(tmp_path: Path, text: str) -> None:
    space = f"space: {{learning_rate: {{low: 3e-4, high: 1e-1}}, beta2: {text}}}"
    space = load(tmp_path, f"name: mine\nladder: laptop\nseed: 1e3\ntrials: 1e1\n{space}\n").space.space()
    assert space.learning_rate == LogUniform(3e-4, 0.1)
    assert space.beta2 == Fixed(0.001)


def test_whole_numbers_may_have_an_exponent(tmp_path: Path) -> None:
    sweep = load(tmp_path, "name: mine\nladder: laptop\nseed: 1e3\ntrials: 1e1\n")
    assert (sweep.seed, sweep.trials) == (1000, 10)


def test_a_range_is_searched_and_a_number_is_fixed(tmp_path: Path) -> None:
    text = "{name: mine, ladder: laptop, space: {learning_rate: 0.01, batch_size: 4, beta2: 0.95}}"
    fixed = load(tmp_path, text).space.space()
    assert fixed.axes() == {"learning_rate": Fixed(0.01), "batch_size": Fixed(4), "beta2": Fixed(0.95)}
    space = load(tmp_path, MINIMAL).space.space()
    assert [type(axis) for axis in space.axes().values()] == [LogUniform, PowersOfTwo, OneMinusLog]


@pytest.mark.parametrize(
    ("override", "look", "expected"),
    [
        ("trials=7", lambda s: s.trials, 7),
        ("space.learning_rate.low=2e-3", lambda s: s.space.learning_rate.low, 2e-3),
        ("space.beta2=0.95", lambda s: s.space.beta2, 0.95),
        ("tokens_per_param=[5, 10]", lambda s: s.tokens_per_param, [5.0, 10.0]),
        ("trainer=synthetic", lambda s: s.trainer_ref().name, "synthetic"),
        ("trainer.corpus=installed-python", lambda s: s.trainer_ref().options["corpus"], "installed-python"),
        ("resources.s4.gpus=1", lambda s: s.resources_of("s4").gpus, 1.0),
        ("cluster.address=in-process", lambda s: s.cluster.address, "in-process"),
        ("cluster.address=10.0.0.1:6379", lambda s: s.cluster.address, "10.0.0.1:6379"),
        ("resources.default.labels.zone=b", lambda s: s.resources_of("any").labels, {"zone": "b"}),
        ("resources.default.timeout_minutes=1.5", lambda s: s.resources_of("any").timeout_s, 90.0),
        ("tracking.uri=http://host:5000?x=1", lambda s: s.tracking.uri, "http://host:5000?x=1"),
    ],
)
def test_overrides(override: str, look, expected) -> None:
    assert look(config.load("laptop", [override])) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials", "expected key=value"),
        ("=3", "expected key=value"),
        ("a b=3", "expected key=value"),
        ("trails=3", "unknown key 'trails'; did you mean 'trials'"),
        ("trials=[", "the value is not YAML"),
        ("tokens_per_param.0=3", "tokens_per_param is a list; give it whole, as tokens_per_param=[...]"),
        ("trials=", "trials is None; it should be a whole number"),
    ],
)
def test_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config.load("laptop", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ready_sweeps())
def test_ready_sweeps_load_and_plan(name: str) -> None:
    sweep = config.load(name)
    assert sweep.name == name
    plan = sweep.plan()
    assert plan.searches[-1].held_out
    assert [search.held_out for search in plan.searches] == [place >= 3 for place in range(len(plan.searches))]
    assert not any(s.held_out for s in config.load(name, ["sampler=tpe"]).plan().searches[:-1])
    assert plan.searches[0].seeds == plan.searches[-1].seeds == 3


def test_there_are_ready_sweeps() -> None:
    assert {"laptop", "evening", "porian"} <= set(ready_sweeps())


@pytest.mark.parametrize("name", ready_sweeps())
def test_a_resolved_sweep_is_the_same_sweep(tmp_path: Path, name: str) -> None:
    sweep = config.load(name, ["space.beta2=0.95", "seed=3"])
    again = load(tmp_path, yaml.safe_dump(sweep.resolved(), sort_keys=False))
    assert again.resolved() == sweep.resolved()
    assert again.plan() == sweep.plan()
    assert again.plan().fingerprint() == sweep.plan().fingerprint()
    assert again.trainer_ref() == sweep.trainer_ref()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds nothing; give a mapping of keys"),
        ("- a\n- b\n", "holds a list; give a mapping"),
        ("name: [", "is not YAML"),
        ("name: !!python/object:os.system x", "is not YAML"),
    ],
)
def test_a_file_that_is_no_sweep_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        config.load(str(path))


def test_an_unknown_sweep_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no sweep file 'lapton'.*did you mean 'laptop'\?; ready are evening, laptop"):
        config.load("lapton")


def test_resources_of_a_scale() -> None:
    sweep = tiny.sweep(resources={"default": {"cpus": 2}, "s4": {"gpus": 0.25}})
    assert sweep.resources_of("s1") == Resources(cpus=2)
    assert sweep.resources_of("s4") == Resources(cpus=1, gpus=0.25)
    assert tiny.sweep(resources={"s4": {"cpus": 3}}).resources_of("s1") == Resources()


def test_the_largest_scale_is_held_out_where_enough_are_left() -> None:
    assert [search.held_out for search in tiny.sweep().plan().searches] == [False, False, False, True]
    assert not any(search.held_out for search in tiny.sweep(scales=3).plan().searches)
    assert not any(search.held_out for search in tiny.sweep(backtest=False).plan().searches)


def test_a_schedule_that_ends_has_a_search_for_each_horizon() -> None:
    assert len(tiny.sweep().plan().searches) == 4
    cosine = tiny.sweep(schedule="cosine")
    assert len(cosine.plan().searches) == 8
    assert cosine.schedule is Schedule.COSINE
    assert config.load("laptop", ["schedule=cosine"]).trainer_ref().options["schedule"] == "cosine"
