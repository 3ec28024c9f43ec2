"""Training, validation and test splits: protocols, and the assignment of samples that they make."""
