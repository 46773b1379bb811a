"""The `lm` trainer: a transformers language model on prepared tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from search_spaces.scale import ModelScale
from trainers.api import Session, TrialSpec
from trainers.lm.data import PreparedData
from trainers.lm.device import use_device
from trainers.lm.loop import Run
from trainers.lm.options import LMOptions
from trainers.lm.prepare import find_prepared, prepare
from trainers.lm.warm import warm_up
from trainers.options import read_options


class LMTrainer:
    """Trains language models on one thread of a CPU, or on one GPU.

    `version` and `train` open what `prepare` wrote, and prepare only where there is nothing yet.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        self.options = read_options(LMOptions, options, "lm")

    @property
    def version(self) -> str:
        """Options that decide a curve, and the hash of the tokens (corpus, tokenizer, held-out set)."""
        return f"{self.options.identity()} data {self.data.manifest.digest}"

    @cached_property
    def data(self) -> PreparedData:
        """The prepared tokens."""
        return PreparedData(*(find_prepared(self.options) or prepare(self.options)))

    def prepare(self, scales: Sequence[ModelScale], tokens: int, say: Callable[[str], None]) -> None:
        """Tokenise what has not been yet, or has changed. Raises InputError where it cannot serve the trials."""
        say(f"preparing corpus {self.options.corpus}")
        self.data = PreparedData(*prepare(self.options))
        manifest = self.data.manifest
        say(
            f"{manifest.documents:,} documents, {manifest.train_tokens:,} training and "
            f"{manifest.validation_tokens:,} held-out tokens, vocabulary of {manifest.vocab_size:,}"
        )
        for scale in scales:
            self.data.check(scale, tokens, self.options.epochs)

    def warm_up(self) -> None:
        """Pay the first import, the first AdamW and the kernel probe before the first trial."""
        warm_up(use_device())

    def train(self, spec: TrialSpec, session: Session) -> None:
        """Train to `spec.tokens`; see trainers.api.Trainer."""
        Run(spec=spec, options=self.options, data=self.data, session=session, device=use_device()).run()
