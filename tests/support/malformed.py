"""Malformed sweep files, overrides and tables, by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import tiny
import yaml

GOOD = tiny.content(
    sampler="law-guided",
    target={"params": 1e6, "tokens": 1e7},
    budget={"flops": 1e15, "device_hours": 2},
    stop={"regret": "0.1%"},
    resources={"default": {"cpus": 1, "gpus": 0, "memory_gib": 1}},
    schedule="constant",
    seed=0,
)
NEVER: tuple[Any, ...] = (-1, "", [], "../x", float("nan"), [1, [2]], {"unknown": 1})
# What each key must not be. Values that are wrong for every key are tried on every one.
WRONG: dict[tuple[str | int, ...], tuple[Any, ...]] = {
    ("name",): (None, "a/b", "..", ".hidden", "x" * 65, "a b", "a\nb", "/etc/passwd", "~"),
    ("ladder",): (None, "laptob", 5, "", [{}], [tiny.ladder(1)[0]] * 2),
    ("ladder", 0, "name"): ("a/../b", 7, "s2"),
    ("ladder", 0, "depth"): (0, 1.5, "two", None, True),
    ("ladder", 0, "width"): (0, 7, "wide"),
    ("ladder", 0, "heads"): (0, 3),
    ("ladder", 0, "vocab_size"): (0, "32k"),
    ("ladder", 0, "sequence_length"): (0, 1e400),
    ("tokens_per_param",): (None, 20, [0], ["x"], [float("inf")]),
    ("trials",): (0, 1.5, "many", None, True),
    ("replicates",): (0, "none", 2.5),
    ("space", "learning_rate"): (0, {"low": 1}, {"low": 2, "high": 1}, {"low": 0, "high": 1}, "1e", True),
    ("space", "batch_size"): (0, {"low": 3, "high": 5}, {"low": 1, "high": 3}, 2.5, {"low": 1, "high": 1024}),
    ("space", "beta2"): (1, 1.5, {"low": 0.9, "high": 1.0}, {"low": 0.9, "high": 0.5}),
    ("sampler",): ("tpee", None, 3, ["tpe"]),
    ("schedule",): ("linear", None, 1),
    ("seed",): (1.5, "x", True),
    ("target", "params"): (0, None, True, "7b"),
    ("target", "tokens"): (0, "many"),
    ("budget", "flops"): (0, True, "1e"),
    ("budget", "device_hours"): (0, "2h"),
    ("stop", "regret"): (0, 1, "100%", "little%", None, 1.5),
    ("trainer",): ("nobody", None, 4, {"name": "lmm"}, {"name": "synthetic", "noise": 1}, {"command": "x {learning}"}),
    ("resources", "default", "cpus"): (0, float("inf"), "all", True),
    ("resources", "default", "gpus"): (float("inf"), "one"),
    ("resources", "default", "memory_gib"): (0, "16GB"),
    ("resources",): (None, 4, {"s9": {"cpus": 1}}),
    ("cluster", "address"): ("moon", None, 6379, "host:port", "host:99999"),
    ("cluster", "workers"): (0, 1.5),
    ("tracking",): ({"uri": "ftp://host"}, {"uri": "http://me:secret@host"}, {"uri": 5}, "http://host"),
    ("studies",): ({"uri": "http://host"}, {"uri": "redis://host"}, {"uri": "postgresql://me:secret@host/x"}, []),
    ("storage",): (5, "s3://key:secret@bucket/x", ["/x"], ""),
}
TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "only a comment": b"# to be written\n",
    "a list": b"- name: x\n",
    "a text": b"name\n",
    "a number": b"5\n",
    "a tab": b"name:\tx\n\tladder: laptop\n",
    "an unclosed bracket": b"name: [x\n",
    "an unclosed quote": b'name: "x\n',
    "two documents": b"name: x\n---\nname: y\n",
    "bytes": bytes(range(256)),
    "utf-16": "name: x\n".encode("utf-16"),
    "a null": b"name: x\0\n",
    "a python object": b"!!python/object/apply:os.system ['echo harm > harmed']\n",
    "a python name": b"name: !!python/name:os.system\n",
    "an unknown tag": b"name: !mine x\n",
    "an unknown alias": b"name: *x\n",
    "a number for a key": b"5: x\n",
    "a list for a key": b"[1, 2]: x\n",
    "a key twice removed": b"name.x: y\n",
    "json that is cut off": b'{"name": "x", "ladder": ',
    "a deep nest": b"name: " + b"[" * 2000 + b"]" * 2000 + b"\n",
    "a csv": b"params,tokens,loss\n1,2,3\n",
    "no name": b"ladder: laptop\n",
    "no ladder": b"name: x\n",
    "a recursive alias": b"name: &a [*a]\n",
    "a thousand million laughs": b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 10)) for c in range(98, 107))
    + b"name: *j\n",
    "a date": b"name: 2024-01-01\nladder: laptop\n",
}
OVERRIDES = (
    "", "=", "trials", "trials=", "=3", "trials=0", "trails=3", "space.=1", ".trials=3", "trials..x=3", "name=a/b",
    "ladder.0.depth=3", "space.learning_rate.low=[", "trials=: :", "tracking.uri=http://me:secret@host", "a b=c",
)  # fmt: skip
TABLES: dict[str, bytes] = {
    "nothing": b"",
    "a header alone": b"params,tokens,loss\n",
    "no loss": b"params,tokens\n1000,20000\n",
    "bytes": bytes(range(256)) * 4,
    "text for numbers": b"params,tokens,loss\nmany,few,low\nmany,few,low\n",
    "ragged": b"params,tokens,loss\n1000,20000,3.1,7,8\n1,2\n",
    "negative": b"params,tokens,loss\n-1000,20000,3.1\n-2000,20000,3.0\n",
    "zeros": b"params,tokens,loss\n0,0,0\n0,0,0\n",
    "not a number": b"params,tokens,loss\nnan,nan,nan\n",
    "infinite": b"params,tokens,loss\ninf,inf,inf\n",
    "columns twice": b"params,params,tokens,loss\n1,2,3,4\n",
    "json": b'{"params": 1}',
    "yaml": b"name: x\n",
    "a null": b"params,tokens,loss\n1\0,2,3\n",
    "an unclosed quote": b'params,tokens,loss\n"1,2,3\n',
    "utf-16": "params,tokens,loss\n1,2,3\n".encode("utf-16"),
    "no header": b"1000,20000,3.1\n2000,20000,3.0\n",
    "one run": b"params,tokens,loss\n1000,20000,3.1\n",
}


def sweeps() -> Iterator[tuple[str, bytes]]:
    """A name and the bytes of each malformed sweep file."""
    yield from TEXTS.items()
    for place in places(GOOD):
        for value in (*NEVER, *WRONG.get(place, ())):
            yield f"{'.'.join(map(str, place))}={value!r:.40}", dumped(GOOD, place, value)
    for place, values in WRONG.items():
        if place[0] not in GOOD:
            for value in values:
                yield f"{place[0]}={value!r:.40}", dumped(GOOD, place, value)
    yield "unknown key", yaml.safe_dump(GOOD | {"trails": 3}).encode()
    yield "unknown section", yaml.safe_dump(GOOD | {"optimizer": {"name": "adam"}}).encode()


def places(content: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key; of lists the first entry stands for all."""
    entries = content.items() if isinstance(content, dict) else [(0, content[0])] if isinstance(content, list) else ()
    for key, value in entries:
        yield (*above, key)
        yield from places(value, (*above, key))


def dumped(content: dict[str, Any], place: tuple[str | int, ...], value: Any) -> bytes:
    """The content with another value at a place."""
    changed = copy.deepcopy(content)
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return yaml.safe_dump(changed).encode()
