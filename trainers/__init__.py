"""Turns a TrialSpec into a loss curve: knows nothing of sweeps, studies or trackers."""
