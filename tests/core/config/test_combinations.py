"""Settings that exclude each other: the rules, one by one and as the whole that docs/OPTIONS.md prints."""

import pytest

from _options import OPTIONS, excluded, options_page
from _pairs import PAIRS, made
from pave_core.config.combinations import RULES, broken
from pave_core.config.fields import from_shown, widgets_of
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig, TrainConfig
from pave_core.errors import ConfigError
