"""What the pack sends to the page: progress, previews, presets."""
