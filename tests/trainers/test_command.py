"""A user's own script as a subprocess: results from its file, never from what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from search_spaces.errors import InputError
from trainers.api import Cause, TrialFailed, TrialPaused
from trainers.command import CommandTrainer
from trainers.process import Process
from trainers.session import TrialSession, run_trial

# Ten lines, as a user would write them; the words after the settings say what goes wrong.
SCRIPT = """
import json, os, sys, time
rate, mode = float(sys.argv[1]), sys.argv[2]
trial = json.load(open(os.environ["SCALESWEEP_TRIAL"]))
state = os.path.join(os.environ["SCALESWEEP_CHECKPOINTS"], "state")
done = int(open(state).read()) if os.path.exists(state) else 0
attempt = os.environ["SCALESWEEP_ATTEMPT"]
print("loss 0.000", flush=True)
with open(os.environ["SCALESWEEP_CURVE"], "a") as curve:
    for tokens in trial["eval_tokens"]:
        if tokens <= done:
            continue
        print(json.dumps({"tokens": tokens, "loss": 10 / tokens ** 0.1 + rate, "grad_norm": 1}), file=curve, flush=True)
        open(state, "w").write(str(tokens))
        if mode == "kill":
            os.kill(os.getpid(), 9)
        if mode == "fail":
            sys.exit("something is wrong")
        if mode == "stop":
            sys.exit(0)
        if mode == "nonsense":
            print("tokens=3 loss=4", file=curve, flush=True)
        if mode == "null":
            print(json.dumps({"tokens": tokens + 1, "loss": None}), file=curve, flush=True)
        if mode == "falls":
            print(json.dumps({"tokens": 1, "loss": 1}), file=curve, flush=True)
        if mode == "hang" and attempt == "1":
            open("pid", "w").write(str(os.getpid()))
            time.sleep(60)
if mode == "quiet":
    pass
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trainer(mode: str, **options) -> CommandTrainer:
    return CommandTrainer({"command": f"{sys.executable} train.py {{learning_rate}} {mode}", **options})


def run(trained, spec, folder: Path, attempt: int = 1, stop=lambda: False):
    with TrialSession(
        spec=spec, attempt=attempt, workspace=folder / "work", deliver=lambda _: None, stop=stop
    ) as session:
        return run_trial(trained, spec, session), session.curve


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def wait_for(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())


def test_the_curve_comes_from_the_file(script, make_spec):
    spec = make_spec(learning_rate=0.25)
    result, curve = run(trainer("well"), spec, script)
    assert [(p.tokens, p.loss) for p in curve] == [(t, 10 / t**0.1 + 0.25) for t in spec.eval_tokens]
    assert curve[0].grad_norm == 1
    assert result.final_loss == curve[-1].loss
    assert (script / "work" / "stdout.txt").read_text() == "loss 0.000\n"


@pytest.mark.parametrize(
    ("mode", "cause", "message"),
    [
        ("fail", Cause.USER_ERROR, "(?s)exit code 1.*something is wrong"),
        ("stop", Cause.USER_ERROR, "ended well, but .* goes to 65,536 of 524,288 tokens"),
        ("kill", Cause.WORKER_LOST, "perhaps out of memory"),
        ("nonsense", Cause.USER_ERROR, r"line 2 is 'tokens=3 loss=4'; expected a line like"),
        ("falls", Cause.USER_ERROR, "at 1 tokens after one at 65,536"),
    ],
)
def test_failures_have_a_cause_and_say_why(script, make_spec, mode, cause, message):
    with pytest.raises(TrialFailed, match=message) as failure:
        run(trainer(mode), make_spec(), script)
    assert failure.value.cause is cause


def test_a_loss_of_null_is_divergence(script, make_spec):
    result, _ = run(trainer("null"), make_spec(), script)
    assert result.diverged


def test_a_killed_script_goes_on_from_its_checkpoint(script, make_spec):
    spec = make_spec()
    killed = trainer("kill")
    for attempt in (1, 2):
        with pytest.raises(TrialFailed):
            run(killed, spec, script, attempt)
    result, curve = run(killed, spec, script, 3)
    assert [p.tokens for p in curve] == list(spec.eval_tokens)
    assert result.repeated_tokens == 0


def test_a_line_that_nobody_read_is_not_lost(script, make_spec):
    spec, folder = make_spec(), script / "work"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "state").write_text(str(spec.tokens))
    lines = "".join(f'{{"tokens": {tokens}, "loss": 2}}\n' for tokens in spec.eval_tokens)
    (folder / "curve.jsonl").write_text(lines + '{"tokens": 99')
    result, _ = run(trainer("well"), spec, script, 2)
    assert result.final_loss == 2


def test_time_out(script, make_spec):
    with pytest.raises(TrialFailed, match="longer than timeout_s: 1") as failure:
        run(trainer("hang", timeout_s=1), make_spec(), script)
    assert failure.value.cause is Cause.TIMED_OUT
    assert gone(int((script / "work" / "pid").read_text()))


def test_asked_to_leave_the_script_gets_sigterm_and_goes_on_later(script, make_spec):
    spec, pid = make_spec(), script / "work" / "pid"
    began = time.monotonic()
    with pytest.raises(TrialPaused, match="asked to leave at 65,536 tokens"):
        run(trainer("hang"), spec, script, stop=lambda: pid.exists() and pid.read_text() != "")
    assert time.monotonic() - began < 20
    assert gone(int(pid.read_text()))
    assert not run(trainer("hang"), spec, script, 2)[0].diverged


def test_a_script_that_ignores_sigterm_is_killed(tmp_path):
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); open('pid', 'w').write(str(__import__('os').getpid()))"
    )
    with Process([sys.executable, "-c", code + "; time.sleep(60)"], folder=tmp_path, env={}, grace_s=0.2) as process:
        pid = wait_for(tmp_path / "pid")
        process.stop()
        assert process.wait(0) is None
    assert gone(pid)


@pytest.mark.parametrize("ray_kills_the_children", [False, True])
def test_the_script_does_not_outlive_a_killed_worker(tmp_path, ray_kills_the_children):
    worker = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from trainers.process import Process
        code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
        with Process([sys.executable, "-c", code], folder=Path({str(tmp_path)!r}), env={{}}, grace_s=1) as process:
            process.wait(60)
    """)
    with subprocess.Popen([sys.executable, "-c", worker]) as process:
        pid = wait_for(tmp_path / "pid")
        guardian = os.getpgid(pid)  # the leader of the script's group
        os.kill(process.pid, signal.SIGKILL)
        if ray_kills_the_children:
            os.kill(guardian, signal.SIGKILL)
    assert gone(pid)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program {seed}", "no program 'no-such-program'"),
        (
            "python train.py --lr {learning_rat}",
            r"unknown placeholder \{learning_rat\}; did you mean \{learning_rate\}",
        ),
        ("python train.py {learning_rate:.2f}", "write {learning_rate} alone"),
        ("python train.py '{", "cannot be split into words"),
        ("python train.py {", "a literal brace is written twice"),
        (" ", "the command is empty"),
    ],
)
def test_a_wrong_command_is_refused(command, message):
    with pytest.raises(InputError, match=message):
        CommandTrainer({"command": command})


def test_an_unknown_option_is_refused():
    with pytest.raises(InputError, match="unknown key 'comand'; did you mean 'command'"):
        CommandTrainer({"comand": "python x.py"})


def test_every_placeholder_is_filled(tmp_path, monkeypatch, make_spec):
    monkeypatch.chdir(tmp_path)
    names = "learning_rate batch_size beta2 seed tokens steps batch_tokens width depth heads vocab_size name params"
    (tmp_path / "show.py").write_text(
        "import json, os, sys\n"
        "open('arguments', 'w').write(' '.join(sys.argv[1:]) + os.environ['FLAVOUR'])\n"
        "t = json.load(open(os.environ['SCALESWEEP_TRIAL']))['tokens']\n"
        "print(json.dumps({'tokens': t, 'loss': 1.0}), file=open(os.environ['SCALESWEEP_CURVE'], 'a'))\n"
    )
    words = " ".join(f"{{{name}}}" for name in names.split())
    show = CommandTrainer({"command": f"{sys.executable} show.py {words} '{{{{a}}}}'", "env": {"FLAVOUR": "!"}})
    run(show, make_spec(learning_rate=0.00123), tmp_path)
    said = (tmp_path / "work" / "arguments").read_text()
    assert said == "0.00123 16 0.98 1 524288 256 2048 32 2 2 256 s1 28672 {a}!"


def test_the_version_follows_the_script_unless_declared(script):
    first = trainer("well").version
    assert trainer("well").version == first
    assert trainer("quiet").version != first
    declared = trainer("well", version="7").version
    (script / "train.py").write_text(SCRIPT + "# changed\n")
    assert trainer("well").version != first
    assert trainer("well", version="7").version == declared


SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "planted/mlflow@password",
    "RAY_AUTH_TOKEN": "planted0ray0token0planted0ray0token0",
    "AWS_SECRET_ACCESS_KEY": "planted\"aws\\secret's",
    "DEPLOY_KEY": "-----BEGIN PLANTED KEY-----\nplanted0first0line\nplanted0second0line\n",
    "STORE": "postgresql://me:planted-in-an-address@host/db",
}
TELLTALE = """
import json, os, sys
known = {name: value for name, value in os.environ.items() if "planted" in value}
print(os.environ)
print(json.dumps(known), file=sys.stderr)
print("x" * 15_000, *known.values(), "y" * 20_000, sep="", end="")
print(*known.values(), sep="\\r", file=sys.stderr)
sys.stdout.buffer.write(b" \\xff and no end")
open("seen", "w").write(" ".join(known))
"""


@pytest.fixture
def _planted(monkeypatch):
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)


@pytest.mark.usefixtures("_planted")
def test_what_a_command_prints_holds_no_secret_of_its_environment(tmp_path):
    with Process([sys.executable, "-c", TELLTALE], folder=tmp_path, env={}, grace_s=1) as process:
        assert process.wait(20) == 0
    # A program may need all of them but Ray's, which is the cluster's alone.
    assert set((tmp_path / "seen").read_text().split()) == SECRETS.keys() - {"RAY_AUTH_TOKEN"}
    printed = (tmp_path / "stdout.txt").read_bytes(), (tmp_path / "stderr.txt").read_bytes()
    for output in printed:
        assert b"planted" not in output.lower().replace(b"begin planted", b""), output
        assert b"***" in output
    assert b"x" * 15_000 + b"***" in printed[0]
    assert printed[0].endswith(b"y" * 20_000 + b" \xff and no end")
    assert b"'STORE': 'postgresql://me:***@host/db'" in printed[0]


def test_lines_are_there_while_the_command_runs(tmp_path):
    code = "import time; print('so far', flush=True); print('1 %', '2 %', sep=chr(13), end=chr(13), flush=True)"
    with Process([sys.executable, "-c", code + "; time.sleep(60)"], folder=tmp_path, env={}, grace_s=1) as process:
        deadline = time.monotonic() + 20
        while (tmp_path / "stdout.txt").read_bytes() != b"so far\n1 %\r":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.wait(0) is None
    assert (tmp_path / "stdout.txt").read_bytes() == b"so far\n1 %\r2 %\r"


def test_a_full_disk_does_not_hold_the_command_up(tmp_path):
    (tmp_path / "stdout.txt").symlink_to("/dev/full")
    code = "for _ in range(20_000): print('far more than a pipe holds')"
    with Process([sys.executable, "-c", code], folder=tmp_path, env={}, grace_s=1) as process:
        assert process.wait(20) == 0


def test_a_process_that_left_the_group_is_not_waited_for_for_ever(tmp_path):
    code = "import os, time; os.fork() or (os.setsid(), open('pid', 'w').write(str(os.getpid())), time.sleep(60))"
    began = time.monotonic()
    with Process([sys.executable, "-c", code], folder=tmp_path, env={}, grace_s=1) as process:
        assert process.wait(20) == 0
        pid = wait_for(tmp_path / "pid")
    os.kill(pid, signal.SIGKILL)
    assert time.monotonic() - began < 20
