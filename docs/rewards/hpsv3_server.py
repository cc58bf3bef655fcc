"""A server with a scorer for Pave Judge (HTTP): HPSv3, whose packages do not fit into ComfyUI's environment.

    python hpsv3_server.py              HPSv3 (needs its package and a GPU with about 18 GB)
    python hpsv3_server.py --fake       the mean brightness, to try the connection without HPSv3

POST /score  {"images": [base64 of a PNG, ...], "prompts": ["...", ...]}  ->  {"scores": [number, ...]}

To serve another scorer, write a function like `hpsv3` below: it returns a function from Pillow images and their prompts
to one number per image.
"""

import argparse
import base64
import binascii
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

MAX_REQUEST = 256_000_000  # bytes
MAX_PIXELS = 4096 * 4096

Scorer = Callable[[list[Image.Image], list[str]], list[float]]


def fake() -> Scorer:
    """A scorer by the mean brightness, from 0 to 1."""

    def score(images: list[Image.Image], prompts: list[str]) -> list[float]:
        grey = [image.convert("L").resize((1, 1), Image.Resampling.BOX) for image in images]
        return [pixel.getpixel((0, 0)) / 255 for pixel in grey]  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]

    return score


def hpsv3(device: str, checkpoint: str | None) -> Scorer:
    """A scorer by HPSv3 (arXiv 2508.03789): mu of its output [mu, sigma]."""
    import torch
    from hpsv3 import HPSv3RewardInferencer  # pyright: ignore[reportMissingImports]

    model = HPSv3RewardInferencer(device=device, checkpoint_path=checkpoint)

    @torch.inference_mode()
    def score(images: list[Image.Image], prompts: list[str]) -> list[float]:
        return model.reward(prompts=prompts, image_paths=images)[:, 0].float().tolist()

    return score


def parsed(body: bytes) -> tuple[list[Image.Image], list[str]]:
    """The images and prompts of a request. ValueError, with what is wrong, for a bad one."""
    request = json.loads(body)
    images, prompts = (request.get(key) if isinstance(request, dict) else None for key in ("images", "prompts"))
    if not isinstance(images, list) or not isinstance(prompts, list) or len(images) != len(prompts) or not images:
        raise ValueError('send {"images": [base64 of a PNG, ...], "prompts": [as many texts]}')
    if not all(isinstance(text, str) for text in (*images, *prompts)):
        raise ValueError("images and prompts must be texts")
    return [opened(data) for data in images], prompts


def opened(data: str) -> Image.Image:
    """The image in a base64 text, as RGB. ValueError if it cannot be read or is too large."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG", "JPEG"])
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"an image of {image.width} x {image.height} is too large")
        return image.convert("RGB")
    except (binascii.Error, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"an image cannot be read: {error}") from error


class Handler(BaseHTTPRequestHandler):
    """The answer to one request. Only one thread at a time calls the scorer."""

    scorer: Scorer
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Answer with the scores, or with an error that says why there are none."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/score" or not 0 < length <= MAX_REQUEST:
            self.answer(404, {"error": f"POST to /score, at most {MAX_REQUEST} bytes"})
            return
        try:
            images, prompts = parsed(self.rfile.read(length))
            with self.lock:
                scores = type(self).scorer(images, prompts)
        except ValueError as error:
            self.answer(400, {"error": str(error)})
        except Exception as error:  # such as out of memory: the next request may be smaller
            self.answer(500, {"error": f"{type(error).__name__}: {error}"})
        else:
            self.answer(200, {"scores": scores})

    def answer(self, status: int, body: object) -> None:
        """Send a whole reply, with `body` as JSON."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A scorer for Pave Judge (HTTP).")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; the default lets nobody else in")
    parser.add_argument("--port", type=int, default=8900, help="0 takes a free one")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--checkpoint", help="your HPSv3.safetensors; without it the hpsv3 package downloads its own")
    parser.add_argument("--fake", action="store_true", help="score by brightness, without HPSv3")
    options = parser.parse_args()
    Handler.scorer = staticmethod(fake() if options.fake else hpsv3(options.device, options.checkpoint))
    with ThreadingHTTPServer((options.host, options.port), Handler) as server:
        print(
            f"serving on http://{options.host}:{server.server_port}  (Pave Judge: api scores, base_url this address)",
            flush=True,
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("bye")


if __name__ == "__main__":
    main()
