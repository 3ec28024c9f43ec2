"""Registered models: their versions, which of them is in force, and how that came about."""
