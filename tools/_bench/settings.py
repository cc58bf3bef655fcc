"""A TrainConfig from names and values: {"rollout.steps": 4, "pave.segments": ()}."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import fields, replace
from typing import Any

Settings = dict[str, Any]
"""{"section.field of TrainConfig": value}"""


class SettingError(ValueError):
    """A setting that a TrainConfig has not."""


def replaced(config: Any, settings: Settings) -> Any:
    """`config`, a TrainConfig, with other settings, all at once. SettingError for a name that it has not."""
    sections: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in settings.items():
        section, _, field = name.partition(".")
        known = [each.name for each in fields(getattr(config, section))] if hasattr(config, section) else []
        if field not in known:
            raise SettingError(f"{name}: not a setting: {section} has {', '.join(known) or 'no settings'}")
        sections[section][field] = value
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in sections.items()})


def parsed(text: str) -> tuple[str, Any]:
    """("rollout.steps", 4) from "rollout.steps=4"; lists are as in JSON, and what is not JSON is a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text}: write it as section.field=value, such as rollout.steps=4")
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        found = value
    return name.strip(), tuple(found) if isinstance(found, list) else found
