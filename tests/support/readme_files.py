"""The README's list of files: a line for each, from the first line of its docstring.

Run it to write the list into the README anew; a test holds the README against it.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("search_spaces", "trainers", "orchestrator")


def listing() -> str:
    """Markdown: a heading for each folder, a line for each file."""
    return "\n".join(line for top in FOLDERS for line in _folder(ROOT / top))


def _folder(folder: Path) -> list[str]:
    files = sorted(folder.glob("*.py"), key=lambda path: path.name)
    lines = [f"\n**{folder.relative_to(ROOT)}/** {_first_line(folder / '__init__.py')}\n"]
    lines += [f"- `{path.name}` {_first_line(path)}" for path in files if path.name != "__init__.py"]
    inner = sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file())
    return lines + [line for path in inner for line in _folder(path)]


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]


def write() -> None:
    """Put the listing between the README's marks."""
    readme = ROOT / "README.md"
    head, rest = readme.read_text().split("<!-- files -->\n")
    tail = rest.split("<!-- /files -->")[1]
    readme.write_text(f"{head}<!-- files -->\n{listing()}\n<!-- /files -->{tail}")


if __name__ == "__main__":
    write()
