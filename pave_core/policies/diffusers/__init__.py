"""A folder of a diffusers pipeline as a policy."""
