"""Documents from a user's files, a hub data set, or Python sources that every user has."""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import json
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import InputError
from trainers.lm.options import BUILT_IN_CORPORA, HubDataset, LMOptions

_DISTRIBUTION = "scalesweep"
# Not code that the interpreter runs: tests, an editor, tables of characters, other people's packages.
_STDLIB_LEFT_OUT = {"test", "tests", "idlelib", "encodings", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents in a fixed order. `fingerprint` changes whenever they may have changed, and is cheap."""

    name: str
    fingerprint: str
    read: Callable[[], Iterator[str]]

    def documents(self) -> Iterator[tuple[str, str]]:
        """(sha256, text) of each document that is not empty, the first of equals only."""
        seen: set[str] = set()
        for text in self.read():
            digest = hashlib.sha256(text.encode()).hexdigest()
            if text and digest not in seen:
                seen.add(digest)
                yield digest, text


def open_corpus(options: LMOptions) -> Corpus:
    """The corpus that the options name. Raises InputError where there is no such thing."""
    wanted = options.corpus
    if isinstance(wanted, HubDataset):
        return _hub(wanted)
    if wanted == "python-stdlib":
        return _sources(wanted, _stdlib_files())
    if wanted == "installed-python":
        return _sources(wanted, _installed_files())
    patterns = [wanted] if isinstance(wanted, str) else wanted
    return _local(patterns, options.text_field)


def _local(patterns: list[str], field: str) -> Corpus:
    files = sorted({path for pattern in patterns for path in _matching(pattern)})
    return Corpus(
        name=", ".join(patterns),
        fingerprint=_fingerprint(files),
        read=lambda: (text for path in files for text in _read_file(path, field)),
    )


def _sources(name: str, files: list[Path]) -> Corpus:
    return Corpus(name=name, fingerprint=_fingerprint(files), read=lambda: _read_sources(files))


def _matching(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file()]
    else:
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        found = [file for match in matches if (file := Path(match)).is_file()]
    if not found:
        raise InputError(
            f"corpus {pattern!r}: no such file; give a path or glob of text, .jsonl or .parquet files, "
            f"{{hub: NAME}}, or one of {', '.join(BUILT_IN_CORPORA)}"
        )
    return [file.resolve() for file in found]


def _read_file(path: Path, field: str) -> Iterator[str]:
    readers = {".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        if path.suffix in readers:
            yield from readers[path.suffix](path, field)
        else:
            yield path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"corpus file {path} cannot be read as UTF-8 text: {error}") from error


def _read_jsonl(path: Path, field: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)[field]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"corpus file {path}, line {number}: expected a JSON object with a text field {field!r}; "
                    "name the field with text_field"
                ) from error
            # JSON may hold halves of surrogate pairs, which no encoding has.
            yield _text(text, f"{path}, line {number}", field).encode(errors="replace").decode()


def _read_parquet(path: Path, field: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        if field not in table.schema_arrow.names:
            raise InputError(
                f"corpus file {path} has no column {field!r} but {table.schema_arrow.names}; name it with text_field"
            )
        for batch in table.iter_batches(columns=[field]):
            for text in batch.column(0).to_pylist():
                yield _text(text, str(path), field)
    except pa.ArrowInvalid as error:
        raise InputError(f"corpus file {path} is not a Parquet file: {error}") from error


def _text(value: object, where: str, field: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"corpus {where}: {field!r} is {type(value).__name__}, expected text; see text_field")
    return value


def _read_sources(files: list[Path]) -> Iterator[str]:
    for path in files:
        try:
            yield path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a package may hold a file in another encoding on purpose


def _stdlib_files() -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    files = root.rglob("*.py")
    return sorted(path for path in files if not _STDLIB_LEFT_OUT & set(path.relative_to(root).parts))


def _installed_files() -> list[Path]:
    """The .py files of every distribution that the project needs, by their place in the installation."""
    files: set[Path] = set()
    for name in _closure(_DISTRIBUTION) - {_DISTRIBUTION}:
        listed = importlib.metadata.files(name) or []
        files.update(Path(str(file.locate())) for file in listed if file.suffix == ".py")
    if not files:
        raise InputError("corpus installed-python: scalesweep is not installed; install it with pip")
    return sorted(files)


def _closure(root: str) -> set[str]:
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement of another platform
        found.add(name)
        waiting += [_normal(line) for line in needed if "extra ==" not in line]
    return found


def _normal(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name.group().lower()) if name else requirement


def _hub(wanted: HubDataset) -> Corpus:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"corpus {{hub: {wanted.hub}}} needs datasets; `pip install datasets`, or `pip install '.[hub]'` in "
            "scalesweep's checkout, on every node"
        ) from error
    try:
        rows = datasets.load_dataset(wanted.hub, wanted.name, split=wanted.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"corpus {{hub: {wanted.hub}, split: {wanted.split}}} cannot be loaded: {error}") from error
    if wanted.column not in rows.column_names:
        raise InputError(f"corpus {{hub: {wanted.hub}}} has no column {wanted.column!r} but {rows.column_names}")
    return Corpus(
        name=wanted.hub,
        fingerprint=str(rows._fingerprint),
        read=lambda: (_text(row[wanted.column], wanted.hub, wanted.column) for row in rows),
    )


def _fingerprint(files: list[Path]) -> str:
    """A hash over names, sizes and times of change."""
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat() if path.exists() else None
        digest.update(f"{path}\0{stat.st_size if stat else 0}\0{stat.st_mtime_ns if stat else 0}\n".encode())
    return digest.hexdigest()[:16]
