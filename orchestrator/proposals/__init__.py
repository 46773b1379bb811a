"""Optuna: the only folder that imports optuna."""
