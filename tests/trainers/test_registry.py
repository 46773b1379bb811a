"""Names of trainers, built in and the user's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces.errors import InputError
from trainers.registry import build
from trainers.synthetic import SyntheticTrainer
from trainers.user import UserTrainer

FUNCTION = "def train(spec, session):\n    session.said = 'function'\n"
CLASS = """
class Mine:
    def __init__(self, options):
        self.options = options
        self.warm = False

    def warm_up(self):
        self.warm = True

    def train(self, spec, session):
        session.said = self.options["word"], self.warm

def make(options):
    return Mine(options)

def wrong(options):
    return 7

def bare():
    return Mine({})

NUMBER = 3
"""


class Listener:
    said: object = None


@pytest.fixture
def module(tmp_path):
    """Writes a module of a name that no other test has; returns the name."""

    def write(text: str) -> str:
        name = f"mine_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_built_in_names():
    assert isinstance(build("synthetic", {}), SyntheticTrainer)


@pytest.mark.parametrize("name", ["sintetic", "", "module:", ":attribute"])
def test_unknown_names_are_refused(name):
    with pytest.raises(InputError, match="lm, synthetic, command or module:attribute"):
        build(name, {})


def test_the_nearest_name_is_proposed():
    with pytest.raises(InputError, match="did you mean 'synthetic'"):
        build("sintetic", {})


def test_a_function_trains(module, tmp_path):
    listener = Listener()
    build(f"{module(FUNCTION)}:train", {}, tmp_path).train(None, listener)
    assert listener.said == "function"


@pytest.mark.parametrize("attribute", ["Mine", "make"])
def test_a_class_or_factory_gets_the_options(module, tmp_path, attribute):
    listener = Listener()
    trainer = build(f"{module(CLASS)}:{attribute}", {"word": "hello"}, tmp_path)
    assert isinstance(trainer, UserTrainer)
    trainer.warm_up()
    trainer.train(None, listener)
    assert listener.said == ("hello", True)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Absent", "has no callable 'Absent'"),
        ("NUMBER", "no callable 'NUMBER'"),
        ("wrong", "made a int without train"),
        ("bare", "cannot be made from its options"),
    ],
)
def test_what_is_no_trainer_is_refused(module, tmp_path, attribute, message):
    with pytest.raises(InputError, match=message):
        build(f"{module(CLASS)}:{attribute}", {}, tmp_path)


def test_a_module_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="'no_such_module' cannot be imported"):
        build("no_such_module:train", {}, tmp_path)


def version_in_a_new_process(folder: Path, name: str, options: dict) -> str:
    code = f"from trainers.registry import build; print(build({name!r}, {options!r}).version)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_version_follows_source_and_options_unless_declared(tmp_path):
    file = tmp_path / "my_trainer.py"
    file.write_text(FUNCTION)
    first = version_in_a_new_process(tmp_path, "my_trainer:train", {})
    assert version_in_a_new_process(tmp_path, "my_trainer:train", {}) == first
    assert version_in_a_new_process(tmp_path, "my_trainer:train", {"a": 1}) != first
    file.write_text(FUNCTION + "# changed\n")
    assert version_in_a_new_process(tmp_path, "my_trainer:train", {}) != first
    declared = FUNCTION + "train.version = '1'\n"
    file.write_text(declared)
    second = version_in_a_new_process(tmp_path, "my_trainer:train", {})
    file.write_text(declared + "# changed\n")
    assert version_in_a_new_process(tmp_path, "my_trainer:train", {}) == second


def test_a_users_own_trainers_folder_does_not_hide_ours(tmp_path):
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "my_trainer.py").write_text("import trainers.api\n" + FUNCTION)
    code = "import sys; sys.path = [p for p in sys.path if p]; from trainers.registry import build; "
    code += "build('my_trainer:train', {}); build('synthetic', {})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_nothing_heavy_is_imported():
    code = "import sys, trainers.registry, trainers.session; "
    code += "print(sorted({'torch', 'numpy', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"
