"""Networks whose weights are the user's own files: reading those, images as a network expects them, and CLIP."""
