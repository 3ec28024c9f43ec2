"""Where the training loop runs: in this process, or on a Ray cluster."""
