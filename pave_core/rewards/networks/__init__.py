"""Networks whose weights are the user's own files: those files, images as a network expects them, and CLIP."""
