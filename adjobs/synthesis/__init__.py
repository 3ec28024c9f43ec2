"""Simulated anomalies: batched tensor operations on the training device, all randomness from a generator that is passed in."""
