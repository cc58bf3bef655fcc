"""The host's MODEL, CLIP and VAE as the core's policy and decoder."""
