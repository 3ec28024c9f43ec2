"""Everything that a run leaves in MLflow."""
