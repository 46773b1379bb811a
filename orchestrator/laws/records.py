"""One measured point of a run, the only thing that laws take."""

from __future__ import annotations

from dataclasses import dataclass, fields

from search_spaces.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One measured point: a run's loss after so many tokens.

    A run whose curve is read at several token counts gives several records with one `run_id`; they are
    one exchangeable unit. None means not known. Loss is nats per token, flops are FLOP.
    """

    run_id: str
    tokens: float | None = None
    loss: float | None = None
    params: float | None = None  # the count that N means in this table (`params_count` of the context)
    non_embedding_params: float | None = None
    flops: float | None = None
    learning_rate: float | None = None
    batch_tokens: float | None = None
    beta2: float | None = None
    steps: float | None = None
    seed: int | None = None
    schedule: str | None = None
    warmup_tokens: float | None = None
    unique_tokens: float | None = None
    error: float | None = None  # downstream top-1 error, 0 to 1
    status: str = "completed"  # completed, diverged or failed
    group: str | None = None

    def __post_init__(self) -> None:
        if self.status not in {"completed", "diverged", "failed"}:
            raise InputError(f"run {self.run_id}: status is {self.status!r}; it must be completed, diverged or failed")


CANONICAL_COLUMNS = tuple(field.name for field in fields(RunRecord))
