"""Sweeps of trials around planted laws of the settings: the laws must find these, their intervals hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.records import RunRecord

CURVATURE = np.array([[0.014, -0.005, 0.0], [-0.005, 0.013, 0.001], [0.0, 0.001, 0.003]])


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Exponents in params and tokens, and how the loss departs from its floor."""

    learning_rate: tuple[float, float] = (-0.36, 0.12)
    batch_tokens: tuple[float, float] = (0.1, 0.5)
    half_life: tuple[float, float] = (0.2, 0.6)
    skew: float = 0.8  # asymmetry of the learning-rate side; another form than the fitted one if `steep`
    steep: bool = False
    noise: float = 0.003
    shared_noise: float = 0.7

    def optimum(self, params, tokens):
        """Log learning rate, log batch tokens, log half-life in steps."""
        size = np.array([np.log(params / 1e6), np.log(tokens / 1e7)])
        rate = np.log(3e-3) + size @ self.learning_rate
        batch = np.log(8192) + size @ self.batch_tokens
        return np.array([rate, batch, np.log(8192 * 40) + size @ self.half_life - batch])

    def floor(self, params, tokens):
        return 1.8 + 2.0 * (params / 1e6) ** -0.3 + 1.5 * (tokens / 1e7) ** -0.3

    def excess(self, offset):
        offset = offset.copy()
        if self.steep:
            past = max(offset[0] - 1.0, 0.0)
            return 0.5 * offset @ CURVATURE @ offset * (1.3 if offset[0] > 0 else 0.8) + 0.02 * past**3
        if self.skew:
            place = self.skew * offset[0]
            offset[0] = np.sign(place) * np.sqrt(2 * (np.expm1(place) - place)) / self.skew
        return 0.5 * offset @ CURVATURE @ offset


def _record(run_id, *, params, tokens, loss, place, schedule):
    return RunRecord(
        run_id=run_id,
        params=params,
        tokens=tokens,
        loss=float(loss),
        flops=6 * params * tokens,
        learning_rate=float(np.exp(place[0])),
        batch_tokens=float(np.exp(place[1])),
        beta2=float(2 ** (-1 / np.exp(place[2]))),
        schedule=schedule,
    )


def make_sweep(
    seed: int, truth: Truth, *, scales: int = 6, trials: int = 16, ratios=(5.0, 10.0, 20.0), shared: bool = True
) -> list[RunRecord]:
    """Random settings around each horizon's optimum. `shared`: constant schedule, one run serves all cells."""
    rng = np.random.default_rng(seed)
    schedule = "constant" if shared else "cosine"
    records = []
    for scale in range(scales):
        params = 3e5 * 2.0**scale
        for horizon in [max(ratios)] if shared else ratios:
            readings = np.geomspace(horizon / 16, horizon, 13) if shared else [horizon]
            centre = truth.optimum(params, params * horizon)
            for trial in range(trials):
                place = centre + rng.uniform(-1, 1, 3) * (1.6, 1.7, 2.0)
                common = rng.standard_normal()
                for ratio in readings:
                    tokens = params * ratio
                    luck = np.sqrt(truth.shared_noise) * common
                    luck += np.sqrt(1 - truth.shared_noise) * rng.standard_normal()
                    excess = truth.excess(place - truth.optimum(params, tokens))
                    loss = truth.floor(params, tokens) * np.exp(excess + truth.noise * luck)
                    name = f"s{scale}-{horizon:g}-{trial}"
                    records.append(
                        _record(name, params=params, tokens=tokens, loss=loss, place=place, schedule=schedule)
                    )
    return records
