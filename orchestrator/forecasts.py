"""Predictions of held-out searches: made in the background, written down before the first trial."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger import History, Predicted
from orchestrator.trial import Trial
from search_spaces.errors import ScalesweepError
from search_spaces.plan import Search
from search_spaces.space import HyperParameters


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the smaller scales say about a cell. `settings` is None where no law could be fitted."""

    settings: HyperParameters | None
    runs_used: int
    prediction: Mapping[str, Any]


Forecaster = Callable[[Search, tuple[Trial, ...]], Forecast]


def background() -> Executor:
    """One thread beside the sweep's."""
    return ThreadPoolExecutor(1, thread_name_prefix="forecast")


class Forecasts:
    """Asks a forecaster once for each search, in an executor's background, since a fit takes seconds."""

    def __init__(self, forecaster: Forecaster, executor: Executor) -> None:
        self._forecaster, self._executor = forecaster, executor
        self._underway: dict[str, tuple[Search, Future[Forecast]]] = {}

    def ask(self, search: Search, known: Sequence[Trial]) -> None:
        """Have the search predicted from these trials, unless it was asked for before."""
        if search.name not in self._underway:
            self._underway[search.name] = search, self._executor.submit(self._forecaster, search, tuple(known))

    def arrived(self, history: History) -> Iterator[Predicted]:
        """Events to write down: forecasts that are there and not in the history yet."""
        for search, future in self._underway.values():
            if future.done() and predicted(history, search) is None:
                yield _event(search, future)

    def close(self) -> None:
        """Wait for nothing: what is underway ends by itself, and nobody asks for it any more."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def predicted(history: History, search: Search) -> Predicted | None:
    """What was written down about a search; None before."""
    cell = search.cell
    found = (e for e in history.of(Predicted) if e.scale == cell.scale.name and e.tokens == cell.tokens)
    return next(found, None)


def predicted_settings(history: History, search: Search) -> HyperParameters | None:
    """The nearest point of the search's space to the predicted settings; None without any."""
    event = predicted(history, search)
    given = event.prediction.get("settings") if event else None
    return search.space.at(given) if given else None


def _event(search: Search, future: Future[Forecast]) -> Predicted:
    try:
        forecast = future.result()
    except ScalesweepError as error:
        forecast = Forecast(settings=None, runs_used=0, prediction={"failed": str(error)})
    prediction = dict(forecast.prediction)
    if forecast.settings is not None:
        prediction["settings"] = dataclasses.asdict(forecast.settings)
    return Predicted(
        time=time.time(),
        scale=search.cell.scale.name,
        tokens=search.cell.tokens,
        runs_used=forecast.runs_used,
        prediction=prediction,
    )
