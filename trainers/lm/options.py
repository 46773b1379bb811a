"""The language-model trainer's options, as they stand under `trainer:` in a sweep file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat

from search_spaces.plan import Schedule
from trainers.options import Count, Options, whole

BUILT_IN_CORPORA = ("python-stdlib", "installed-python")
# Raised by hand whenever equal options and data would give other curves than before.
LM_VERSION = 1
# Options that say where things lie or how they are computed, not what comes out. The corpus and the
# tokenizer are identified by their content (Manifest), not by how they were named; `epochs` only
# permits.
_NOT_IDENTITY = {"corpus", "text_field", "tokenizer", "epochs", "data_dir", "micro_batch", "checkpoint_seconds"}


class HubDataset(Options):
    """A data set of the Hugging Face hub, or a local folder that `datasets` can load."""

    hub: str
    name: str | None = None  # its configuration, where it has several
    split: str = "train"
    column: str = "text"


class BpeTokenizer(Options):
    """A byte-level BPE that `prepare` trains on the corpus; `bpe` is its vocabulary, separator included."""

    bpe: Annotated[int, BeforeValidator(whole), Field(ge=257)]


class PathTokenizer(Options):
    """A tokenizer of transformers: a local folder or a hub name. Its end-of-text token separates documents."""

    path: str


class LMOptions(Options):
    """What a sweep file may say about the language-model trainer. Token counts are tokens, not sequences."""

    corpus: str | list[str] | HubDataset = "python-stdlib"  # a built-in name, or paths and globs of local files
    text_field: str = "text"  # of JSONL lines and Parquet columns
    tokenizer: Literal["bytes"] | BpeTokenizer | PathTokenizer = "bytes"
    schedule: Schedule = Schedule.CONSTANT
    warmup_tokens: Annotated[int, BeforeValidator(whole), Field(ge=0)] | None = None  # None: see warmup_of
    weight_decay: NonNegativeFloat = 1e-4  # a step's, whatever the learning rate (Porian et al. 2024)
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    z_loss: NonNegativeFloat = 0.0
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    eps: Annotated[float, Field(gt=0)] = 1e-8
    epochs: Count = 1
    validation_tokens: Count = 65_536  # of the held-out set; a guess: 512 sequences of 128
    data_dir: Path | None = None  # None: the user's cache folder
    micro_batch: Count | None = None  # sequences; None: as many as fit
    checkpoint_seconds: NonNegativeFloat = 20.0  # at most so much training is lost when a worker is killed

    @property
    def data_root(self) -> Path:
        """The folder of prepared corpora."""
        if self.data_dir is not None:
            return self.data_dir.expanduser()
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "scalesweep"

    def identity(self) -> str:
        """The options that decide a curve, as text that is equal for equal options."""
        chosen = self.model_dump(mode="json", exclude=_NOT_IDENTITY)
        return json.dumps({"lm": LM_VERSION, **chosen}, sort_keys=True)

    def data_request(self) -> str:
        """A hash of what is asked of `prepare`."""
        asked = self.model_dump(mode="json", include={"corpus", "text_field", "tokenizer", "validation_tokens"})
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
