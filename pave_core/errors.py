"""The exceptions of the core. Catch PaveError for all of them."""


class PaveError(Exception):
    """The root of everything that this package raises on purpose."""


class ConfigError(PaveError, ValueError):
    """An input is wrong and was found before training: the message names the field, the value and the remedy."""


class TrainingError(PaveError, RuntimeError):
    """Training cannot go on; what was learnt so far is in the last checkpoint."""
