"""What is computed once from a data set and shared by every process of a machine."""
