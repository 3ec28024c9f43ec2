"""What runs beside the command line: the embedded stack of S3, MLflow and Ray, and the jobs on a cluster."""
