"""Scores from a server: its address, the exchange with it, requests and replies, and the number in a text."""
