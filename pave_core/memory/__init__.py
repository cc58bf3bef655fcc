"""How much memory a run needs, predicted from a few small measurements, and which settings need less."""
