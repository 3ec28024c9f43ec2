"""Blocks and small functions that several methods use."""
