"""Data sets: read from disk (open, formats), checked (checks), split (splits), decoded once (cache), batched (batches)."""
