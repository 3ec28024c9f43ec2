"""Retraining: take in what was labelled, train, let the gate compare, move the alias; each step durable."""
