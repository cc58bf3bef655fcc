"""Settings that exclude each other: the rules, one by one and as the whole that docs/OPTIONS.md prints."""
