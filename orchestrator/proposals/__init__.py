"""Optuna: the only folder that imports optuna."""

from orchestrator.proposals.law_guided import LawGuidedSampler

__all__ = ["LawGuidedSampler"]
