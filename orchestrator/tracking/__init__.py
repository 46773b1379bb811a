"""MLflow: the only folder that imports mlflow, and it does so where it is used (1.5 s)."""
