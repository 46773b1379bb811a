"""Options as they come out of a sweep file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces.errors import InputError
from search_spaces.plan import Schedule
from trainers.lm.options import LMOptions
from trainers.options import read_options


def read(**options: object) -> LMOptions:
    return read_options(LMOptions, options, "lm")


def test_defaults_are_the_designs() -> None:
    options = read()
    assert (options.corpus, options.tokenizer, options.schedule) == ("python-stdlib", "bytes", Schedule.CONSTANT)
    assert (options.weight_decay, options.grad_clip, options.z_loss, options.epochs) == (1e-4, 1.0, 0.0, 1)


def test_numbers_that_yaml_reads_as_text() -> None:
    options = read(weight_decay="3e-4", warmup_tokens="1e6", validation_tokens=2e4, tokenizer={"bpe": "1e3"})
    assert (options.weight_decay, options.warmup_tokens, options.validation_tokens) == (3e-4, 1_000_000, 20_000)
    assert options.tokenizer.bpe == 1000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"wieght_decay": 0.1}, "weight_decay"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"beta1": 1.0}, "beta1"),
        ({"epochs": 0}, "epochs"),
        ({"warmup_tokens": "1.5"}, "warmup_tokens"),
        ({"schedule": "linear"}, "schedule"),
        ({"tokenizer": {"bpe": 100}}, "bpe"),
        ({"corpus": {"hub": "x", "splt": "train"}}, "splt"),
    ],
)
def test_wrong_options_are_named(wrong, message) -> None:
    with pytest.raises(InputError, match=message):
        read(**wrong)


def test_identity_is_what_decides_a_curve() -> None:
    assert read().identity() == read(epochs=3, data_dir="elsewhere", micro_batch=2).identity()
    for change in ({"beta1": 0.8}, {"schedule": "wsd"}, {"warmup_tokens": 5}, {"z_loss": 1e-4}, {"grad_clip": 2.0}):
        assert read(**change).identity() != read().identity()


def test_the_cache_folder_honours_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert read().data_root == tmp_path / "scalesweep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read().data_root == tmp_path / "home" / ".cache" / "scalesweep"


def test_reading_options_imports_nothing_heavy() -> None:
    code = "import sys, trainers.lm.options; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
