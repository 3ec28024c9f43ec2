"""The job file, the settings of a process and the environment variables that it sets."""
