"""Images in: what there is (index), is it sound (preflight), which of it trains or tests (splits), decoded once (cache)."""
