"""Scores from a server: the address, the exchange, the shapes of requests and replies, and the numbers in them."""
