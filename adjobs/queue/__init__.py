"""The queue: jobs that wait for a slot of the cluster, and the record of what became of each."""
