"""Which sample trains, validates and tests: protocols, and the assignment they give."""
