"""A sweep played through on a planted law before anything is spent, and what that says."""
