"""What all nodes share: the driver's record, trials' snapshots, requests. The only folder that imports fsspec."""
