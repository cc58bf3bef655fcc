"""The exceptions of the core. Catch PaveError for all of them."""

NOT_FINITE = (
    "the usual culprits are fp16 (load model and VAE as bf16 or fp32), --fast, Sage attention and patches on the "
    "model; take them out one by one"
)
"""The end of a message about values of a model or its VAE that are not finite."""


class PaveError(Exception):
    """The root of everything that this package raises on purpose."""


class ConfigError(PaveError, ValueError):
    """An input is wrong and was found before training: the message names the field, the value and the remedy."""


class TrainingError(PaveError, RuntimeError):
    """Training cannot go on; what was learnt so far is in the last checkpoint."""
