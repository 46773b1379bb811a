"""Pieces of HTML: tables, tiles, and nothing of the user's unescaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from orchestrator.numbers import number
from orchestrator.report.style import UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table. `value` is what it sorts by, `note` stands small below; `html` is already escaped."""

    text: str
    value: float | None = None
    note: str = ""
    html: bool = False

    def render(self, *, numeric: bool) -> str:
        """The td element; those of a numeric column stand to the right."""
        attributes = ' class="number"' if numeric else ""
        if self.value is not None and math.isfinite(self.value):
            attributes += f' data-value="{self.value:.10g}"'
        text = self.text if self.html else escape(self.text)
        note = f'<span class="interval">{escape(self.note)}</span>' if self.note else ""
        return f"<td{attributes}>{text}{note}</td>"


def quantity(value: float | None, write: Callable[[float], str] = number, note: str = "") -> Cell:
    """A cell with a number, sortable; a dash where it is not known."""
    return Cell(text=UNKNOWN if value is None else write(value), value=value, note=note)


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, sortable: bool = False, tall: bool = False) -> str:
    """A table; numbers stand to the right. A `tall` one scrolls in itself."""
    numeric = [any(row[i].value is not None for row in rows) for i in range(len(heads))]
    classes = [' class="number"' if is_number else "" for is_number in numeric]
    head = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for text, kind in zip(heads, classes, strict=True))
    body = "".join(f"<tr>{_cells(row, numeric)}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    outer = "scroll tall" if tall else "scroll"
    return f'<div class="{outer}"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(row: Sequence[Cell], numeric: Sequence[bool]) -> str:
    return "".join(cell.render(numeric=is_number) for cell, is_number in zip(row, numeric, strict=True))


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def bullets(items: Sequence[str], kind: str = "") -> str:
    """A list of plain sentences; nothing where there is none."""
    return f"<ul{_class(kind)}>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""


def tiles(entries: Sequence[tuple[str, str]]) -> str:
    """Large numbers with what they count."""
    shown = "".join(
        f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in entries
    )
    return f'<div class="tiles">{shown}</div>'


def definitions(entries: Sequence[tuple[str, str]]) -> str:
    """Names and what they are."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in entries)}</dl>"


def badge(status: str) -> str:
    """The word ok, weak or failed in its colour."""
    return f'<span class="status {escape(status)}">{escape(status)}</span>'


def section(anchor: str, title: str, *parts: str) -> str:
    """A part of the page; nothing where all its parts are empty."""
    body = "".join(parts)
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{body}</section>' if body else ""


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
