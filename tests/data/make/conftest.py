"""The programs here need the tools whose files they write; pytest must not import them for doctests."""

collect_ignore_glob = ["*.py"]
