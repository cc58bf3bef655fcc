"""The settings of a run: frozen dataclasses that check themselves. A setting is written once, on its field."""
