"""What several nodes share: types, widgets, presets."""
