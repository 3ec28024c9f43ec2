"""Searches for hyperparameters: many training jobs, of which validation chooses one."""
