"""Training: a plain loop, the worker that runs it, and the launchers that run workers in this process or on Ray."""
