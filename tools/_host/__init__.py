"""ComfyUI as the tools use it: found or installed, run as a program of its own, talked to, and opened in a browser."""
