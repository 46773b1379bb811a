"""What a sweep proposes next, and when a scale may be predicted: all of it follows from the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.facts import searched, why_over
from orchestrator.forecasts import predicted, predicted_settings
from orchestrator.ledger import History, Settled
from orchestrator.ports import Proposer
from orchestrator.steering import Steering
from orchestrator.trial import Proposal, Reason, Trial, best_trial
from search_spaces.errors import ScalesweepError
from search_spaces.plan import Search, SweepPlan
from search_spaces.space import HyperParameters

# Measured trials of each smaller scale that an early prediction needs: an optimum of three settings, and one to spare.
EARLY_TRIALS = 6


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """Reads a sweep's history, which others write, and asks the proposer."""

    plan: SweepPlan
    history: History
    steering: Steering
    proposer: Proposer

    def next_proposal(self, has_room: Callable[[Search], bool]) -> tuple[Search, Proposal] | None:
        """A proposal for a search that has room, smallest scale first, replicates last; None where there is none."""
        for wanted, propose in ((self._wants_trial, self._propose), (self._wants_replicate, self._replicate)):
            for search in self.steering.order([each for each in self.plan.searches if wanted(each)], self._trials):
                # In this order: a pool holds room for a shape that it had to refuse.
                if has_room(search):
                    return search, propose(search)
        return None

    def unfinished(self) -> bool:
        """Whether some search has proposals or replicates still to come."""
        return any(not self._over(search) or self._lacks_replicates(search) for search in self.plan.searches)

    def settled(self) -> Iterator[Settled]:
        """Events to write down: searches that need no further trial."""
        for search in self.plan.searches:
            why = "" if self._over(search) else self.steering.settled(search, self._trials)
            if why:
                cell = search.cell
                yield Settled(time=time.time(), scale=cell.scale.name, tokens=cell.tokens, why=why)

    def enough(self) -> str:
        """Why nothing more need be proposed; empty while something may be."""
        return self.steering.enough(self._trials)

    def predictable(self) -> Iterator[tuple[Search, list[Trial]]]:
        """Held-out searches that may be predicted now, each with the trials to predict it from."""
        for search in self.plan.searches:
            if search.held_out and predicted(self.history, search) is None:
                below = list(self.plan.below(search))
                # Replicates fill slots meanwhile, and come too late to count.
                known = [trial for other in below for trial in searched(other, self.history) if trial.state.ended]
                if known and all(self._tells_enough(other, early=search.early) for other in below):
                    yield search, known

    @property
    def _trials(self) -> list[Trial]:
        return list(self.history.trials.values())

    def _of(self, search: Search) -> list[Trial]:
        return [trial for trial in self._trials if trial.of(search)]

    def _over(self, search: Search) -> bool:
        """Whether the search gets no further proposals: it has had all of them, or it is settled."""
        return bool(why_over(search, self.history))

    def _wants_trial(self, search: Search) -> bool:
        """Whether the search has a trial to propose now. A held-out one waits until it was predicted."""
        return not self._over(search) and not (search.held_out and predicted(self.history, search) is None)

    def _propose(self, search: Search) -> Proposal:
        tried = searched(search, self.history)
        if search.held_out and not tried:
            settings = predicted_settings(self.history, search)
            if settings is not None:
                return Proposal(settings=settings, reason=Reason.PREDICTED)
        return self.proposer.ask(search, len(tried), self._neighbour_best(search))

    def _wants_replicate(self, search: Search) -> bool:
        """Whether the search is over, has a best trial, and has not had all of its replicates."""
        return self._ended(search) and self._lacks_replicates(search)

    def _lacks_replicates(self, search: Search) -> bool:
        tried, all_of_it = searched(search, self.history), self._of(search)
        replicates = len(all_of_it) - len(tried)
        wanted = search.seeds - 1
        if len(all_of_it) < search.planned_trials and self.steering.repeats(search, self._trials):
            wanted = replicates + 1
        return best_trial(tried) is not None and replicates < wanted

    def _replicate(self, search: Search) -> Proposal:
        """The best settings again: their spread is the noise of a run. Raises ScalesweepError where none is best."""
        best = best_trial(searched(search, self.history))
        if best is None:
            raise ScalesweepError(f"search {search.name} has no completed trial to repeat")
        return Proposal(settings=best.settings, reason=Reason.REPLICATE)

    def _neighbour_best(self, search: Search) -> HyperParameters | None:
        for smaller in self.plan.below(search):
            best = best_trial(self._of(smaller))
            if best is not None:
                return best.settings
        return None

    def _tells_enough(self, search: Search, *, early: bool) -> bool:
        """Whether a prediction for a larger scale need not wait for the search any longer."""
        measured = sum(trial.state.measured for trial in searched(search, self.history))
        return (early and measured >= EARLY_TRIALS) or self._ended(search)

    def _ended(self, search: Search) -> bool:
        """Whether the search is over, and all of its proposals have ended."""
        return self._over(search) and all(trial.state.ended for trial in searched(search, self.history))
