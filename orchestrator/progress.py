"""What a running sweep shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from orchestrator.numbers import count, number
from orchestrator.status import GoalStatus, SearchStatus, SweepStatus
from orchestrator.trial import TrialState
from search_spaces.space import HyperParameters

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.storage.copied import Copied

_COLUMNS = ("search", "done", "running", "diverged", "failed", "best loss", "best settings", "on an edge", "over")
_NUMBERS = {"done", "running", "diverged", "failed", "best loss"}
# A pipe or a log file gets a line this often at most. Seconds.
_LINE_EVERY_S = 10.0


class Display(Protocol):
    """Shows where the sweep stands."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def update(self, status: SweepStatus) -> None:
        """The newest status; called often."""

    def close(self) -> None:
        """Leave the last status on the screen."""


def display(stream: TextIO | None = None) -> Display:
    """The one that suits where the output goes."""
    out = stream or sys.stdout
    return LiveTable() if out.isatty() else Lines(out)


class Quiet:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Not a word."""

    def update(self, status: SweepStatus) -> None:
        """Nothing to redraw."""

    def close(self) -> None:
        """Nothing to leave."""


class Lines:
    """A line whenever a trial ends, but not more often than every ten seconds, and one at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown: tuple[int, float] = (-1, 0.0)
        self._last: SweepStatus | None = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self._out.write(f"{text}\n")
        self._out.flush()

    def update(self, status: SweepStatus) -> None:
        """Show the status if a trial has ended since, and the last line is old enough."""
        self._last = status
        ended, at = self._shown
        if status.ended != ended and time.monotonic() - at >= _LINE_EVERY_S:
            self._show(status)

    def close(self) -> None:
        """Show the last status if it was not shown."""
        if self._last is not None and self._last.ended != self._shown[0]:
            self._show(self._last)

    def _show(self, status: SweepStatus) -> None:
        self._shown = (status.ended, time.monotonic())
        self.say(headline(status))


class LiveTable:
    """A table that is redrawn in place: one row a search."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=4, transient=False)
        self._started = False

    def say(self, text: str) -> None:
        """A line above the table."""
        self._console.print(text, highlight=False, markup=False)

    def update(self, status: SweepStatus) -> None:
        """Redraw."""
        if not self._started:
            self._live.start()
            self._started = True
        self._live.update(_table(status))

    def close(self) -> None:
        """Leave the table as it is."""
        if self._started:
            self._live.stop()
            self._started = False


def headline(status: SweepStatus) -> str:
    """The whole sweep in one line."""
    parts = [f"{status.ended}/{status.planned} trials"]
    parts += [
        f"{count} {state.value}"
        for state, count in status.counts.items()
        if count and state in {TrialState.RUNNING, TrialState.DIVERGED, TrialState.FAILED}
    ]
    busy = status.occupancy.busy_fraction
    if busy is not None:
        parts.append(f"slots {busy:.0%} busy")
    if status.seconds_left is not None and status.ended < status.planned:
        parts.append(f"{'at most' if status.goal.target else 'about'} {duration(status.seconds_left)} left")
    if status.goal.expected_regret is not None:
        parts.append(f"expected regret of the target {percent(status.goal.expected_regret)}")
    current = [search for search in status.searches if search.best is not None]
    if current and current[-1].best is not None and current[-1].best.loss is not None:
        best = current[-1].best
        parts.append(f"{current[-1].name} best {best.loss:.4f} at {settings_text(best.settings)}")
    return " · ".join(parts)


def _table(status: SweepStatus) -> Table:
    from rich.table import Table

    table = Table(title=f"{status.sweep}: {headline(status)}", title_justify="left", expand=False)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for search in status.searches:
        table.add_row(*search_row(search))
    return table


def search_row(search: SearchStatus) -> tuple[str, ...]:
    """One search as the cells of a table."""
    best = search.best
    done = sum(count for state, count in search.counts.items() if state.ended)
    return (
        search.name,
        f"{done}/{search.planned}",
        str(search.count(TrialState.RUNNING) or ""),
        str(search.count(TrialState.DIVERGED) or ""),
        str(search.count(TrialState.FAILED) or ""),
        f"{best.loss:.4f}" if best is not None and best.loss is not None else "",
        settings_text(best.settings) if best is not None else "",
        ", ".join(search.edges),
        "over" if search.over else "",
    )


def goal_lines(goal: GoalStatus) -> list[str]:
    """What the sweep is for and what it has cost; nothing where neither target nor budget was given."""
    lines = []
    if goal.target is not None:
        params, tokens = goal.target
        known = "not known yet" if goal.expected_regret is None else percent(goal.expected_regret)
        wanted = f", wanted below {percent(goal.wanted_regret)}" if goal.wanted_regret is not None else ""
        lines.append(f"target: {count(params)} params, {count(tokens)} tokens; expected regret {known}{wanted}")
    if goal.most_flops is not None:
        lines.append(f"budget: {number(goal.flops)} of {number(goal.most_flops)} FLOP spent")
    if goal.most_device_hours is not None:
        lines.append(f"budget: {number(goal.device_hours)} of {number(goal.most_device_hours)} device-hours spent")
    return lines


def percent(fraction: float) -> str:
    """A regret: `0.25 %`."""
    return f"{number(100 * fraction)} %"


def settings_text(settings: HyperParameters) -> str:
    """Settings in a few characters."""
    return f"lr {settings.learning_rate:.3g} · batch {settings.batch_size} · beta2 {settings.beta2:.5g}"


def duration(seconds: float) -> str:
    """Seconds in words: `3 h 20 min`, `4 min 10 s`, `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s"


def copy_line(copied: Copied, now: float) -> str:
    """How far the copy in storage is behind the run folder; without one, how old it is."""
    ago = "" if copied.written_at is None else f"{duration(max(0.0, now - copied.written_at))} ago"
    if copied.problem:
        return f"storage: {copied.storage} {copied.problem}" + (f" (copied {ago})" if ago else "")
    if copied.events is None:
        return f"storage: {copied.storage}, as of {ago}; {_driver(copied, now)}"
    behind = "all" if copied.events == copied.events_here else f"{copied.events:,} of"
    return f"storage: {copied.storage} has {behind} {copied.events_here:,} events, copied {ago}"


def _driver(copied: Copied, now: float) -> str:
    """Whether a driver is at work, as far as a storage can tell."""
    if copied.driver_left:
        return "its driver has left"
    if copied.driver_seen_at is None:
        return "it has no sign of a driver"
    return f"its driver's last sign of life is {duration(max(0.0, now - copied.driver_seen_at))} old"


def as_text(status: SweepStatus) -> str:
    """The whole status as `scalesweep status` prints it."""
    rows = [_COLUMNS, *(search_row(search) for search in status.searches)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{status.sweep}: {status.state} · {headline(status)}", ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    over = dict.fromkeys(search.over for search in status.searches if search.over)
    if over:
        lines.append("")
    for why in over:
        lines.append(f"over: {', '.join(search.name for search in status.searches if search.over == why)} ({why})")
    if goal := goal_lines(status.goal):
        lines += ["", *goal]
    if status.causes:
        lines += ["", "failed attempts: " + ", ".join(f"{count} {cause}" for cause, count in status.causes.items())]
    lines += ["proposed by: " + ", ".join(f"{reason} {count}" for reason, count in status.reasons.items())]
    if status.repeated_tokens:
        lines.append(f"lost work: {status.repeated_tokens:,} tokens were trained again after a restart")
    if status.message:
        lines += ["", status.message]
    return "\n".join(lines)
