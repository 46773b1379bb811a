"""Ray: the only folder that imports ray, and the same contract in this process."""
