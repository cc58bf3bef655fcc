"""A run from its beginning to its report, and its files."""
