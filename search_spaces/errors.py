"""The root of the exception tree.

ScalesweepError
├── InputError              what the user gave is wrong: one message, exit code 2, nothing started
│   ├── MissingColumnError  a table of runs lacks what a law needs
│   └── RunFolderError      the run folder is another sweep's, is in use, or its ledger is damaged
├── StorageError            what all nodes share cannot be read or written now
├── FitError                a law cannot be fitted to these records at all (a poor fit is a status)
└── TrialError              a trial ended without a measurement (trainers.api gives it its cause)

Every message carries the value, what was expected and what to do.
"""

from __future__ import annotations


class ScalesweepError(Exception):
    """Root of everything that scalesweep raises on purpose."""


class InputError(ScalesweepError):
    """What the user gave is wrong. The command line prints the message and exits with 2."""


class MissingColumnError(InputError):
    """A table of runs lacks a column that a law needs."""


class RunFolderError(InputError):
    """The run folder belongs to another sweep, is in use by another driver, or is damaged."""


class StorageError(ScalesweepError):
    """What all nodes share cannot be read or written now. It may work again later."""


class FitError(ScalesweepError):
    """A law cannot be fitted to these records at all. A poor fit is a status, not an error."""


class TrialError(ScalesweepError):
    """A trial ended without a measurement."""
