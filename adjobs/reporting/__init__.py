"""What a run left behind, for people: figures and one HTML page."""
