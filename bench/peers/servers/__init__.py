"""One file for each peer that needs a server written; each runs in that peer's environment."""
