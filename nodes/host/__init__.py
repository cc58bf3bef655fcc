"""The parts of the pack that use ComfyUI's internals. Nodes outside this folder see the host only by comfy_api."""
