"""Metrics of images, pixels and regions: arrays in, floats out.

Labels are 0 for normal and 1 for anomalous, a higher score is more anomalous, and an image or pixel raises an alarm
when its score reaches the threshold (``score >= threshold``). What cannot be computed, because a class is missing or
no pixel is anomalous, is None: 0 would look like a failure, 1 like a success. NaN and infinite scores raise ValueError.
"""

# Stored with every run. Raise it when the same labels and scores would give another value or another threshold than
# before, beyond rounding: values of two versions must be recomputed before one model is compared with the other.
METRICS_VERSION = 1

# Of all intervals, unless a caller chooses another.
CONFIDENCE = 0.95
