"""Rewards as nodes."""
