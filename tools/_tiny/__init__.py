"""The stages of make_tiny.py, which build the bundled tiny model."""
