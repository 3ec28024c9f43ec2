"""Industrial visual anomaly detection, trained as jobs on a Ray cluster."""

__version__ = "0.1.0"
