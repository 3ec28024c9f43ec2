"""Scores of a split and what they are worth: metrics, thresholds, comparisons. Arrays in, verdicts out."""
