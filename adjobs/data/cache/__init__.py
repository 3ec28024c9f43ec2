"""Results that are computed from a data set once and shared by all processes of a machine."""
