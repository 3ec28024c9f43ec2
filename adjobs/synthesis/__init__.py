"""Simulated anomalies, drawn on the device that trains and driven by a generator."""
