"""What a data set with versions looks like in storage, and how it is read."""
