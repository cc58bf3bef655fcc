"""The host's graphs, read and expanded."""
