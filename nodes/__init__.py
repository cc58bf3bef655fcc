"""The pack's nodes (V3), grouped by what a user does."""
