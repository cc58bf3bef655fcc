"""The workflows that come with the pack, written down as code, and the checks of a workflow file."""
