"""Data sets that grow: versions that never change, with splits in which every image stays where it is."""
