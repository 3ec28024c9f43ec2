"""The job file and the settings: what to do, and where."""
