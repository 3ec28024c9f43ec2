"""The embedded development stack: S3 (SeaweedFS), MLflow and a Ray head on this machine."""
