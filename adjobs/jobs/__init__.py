"""One job from its file to a typed result: what the command line, the search and the library call."""
