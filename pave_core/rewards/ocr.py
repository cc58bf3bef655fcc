"""Text rendering: the quoted text of the prompt against the text that an OCR network reads in the image.

N = characters of the quoted text
d = 0 where the text read contains the quoted text, else the edit distance (Levenshtein) between the two
r = 1 - min(d, N) / N          in [0, 1]          as in Flow-GRPO, arXiv 2505.05470

Both texts are in Unicode's NFKC form, case-folded and without white space. The lines are read from top to bottom, each
from left to right, and joined; every line counts, however unsure the network is. Upside-down text is not turned first.

The networks (PP-OCR) are those of the PyPI package rapidocr, by the paths in its wheel: nothing is ever downloaded.
They run on the CPU, image by image, so that a score does not depend on the other images.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, quoted
from ..images import picture

QUOTED = re.compile(r'"([^"]+)"|“([^“”]+)”|„([^„“”]+)[“”]|«([^«»]+)»|「([^「」]+)」')
MAX_QUOTED = 1000
"""Characters of quoted text: the time that a comparison takes grows with them."""
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements-ocr.txt"
OLDEST = (3, 10)  # older ones download a font while they read
MAX_THREADS = 4


class OCR:
    """RapidOCR as a reward. ConfigError where it is not installed, too old, or without its networks."""

    name = "ocr"

    def __init__(self) -> None:
        self._models = bundled_models()
        self._engine = _engine(self._models)

    def describe(self) -> dict[str, object]:
        """The networks' files, for recipes."""
        return {"models": [self._models[task].name for task in ("det", "rec")]}

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32. ConfigError for a prompt without quoted text."""
        wanted = [quoted_text(prompt) for prompt in prompts]
        return torch.tensor([text_score(self.read(image), text) for image, text in zip(images, wanted, strict=True)])

    def read(self, image: Tensor) -> str:
        """The text in an image (H, W, 3) in [0, 1], all lines joined."""
        return "".join(self._engine(picture(image)).txts or ())


def quoted_text(prompt: str) -> str:
    """The text in quotation marks, plain or typographic, in the prompt; several such parts are joined in their order.

    ConfigError if there is none.
    """
    text = "".join("".join(groups) for groups in QUOTED.findall(prompt))
    if not normalised(text):
        raise ConfigError(
            f'prompt: {quoted(prompt)} has no text in quotes to look for: write it as in: a shop sign that says "OPEN"'
        )
    if len(text) > MAX_QUOTED:
        raise ConfigError(f"prompt: its text in quotes has {len(text)} characters: shorten it to {MAX_QUOTED}")
    return text


def normalised(text: str) -> str:
    """The text in NFKC form, case-folded, without white space."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_score(read: str, wanted: str) -> float:
    """r = 1 - min(d, N) / N, in [0, 1], of the text read and the quoted text."""
    read, wanted = normalised(read), normalised(wanted)
    N = len(wanted)
    d = 0 if wanted in read else edit_distance(read, wanted)
    return 1 - min(d, N) / N


def edit_distance(a: str, b: str) -> int:
    """The fewest insertions, deletions and substitutions from a to b (Wagner and Fischer 1974), row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def bundled_models() -> dict[str, Path]:
    """The networks in rapidocr's wheel, by task: det finds lines, cls their direction, rec reads them.

    ConfigError where the package is missing, older than OLDEST or without them.
    """
    for package in ("rapidocr", "onnxruntime"):
        if find_spec(package) is None:
            raise ConfigError(f"ocr: the package {package} is not installed: {_install()}")
    try:
        version, files = metadata.version("rapidocr"), metadata.files("rapidocr") or []
    except metadata.PackageNotFoundError as error:  # a bare folder on the path
        raise ConfigError(f"ocr: rapidocr was not installed by pip: {_install()}") from error
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise ConfigError(f"ocr: rapidocr {version} is older than {'.'.join(map(str, OLDEST))}: {_install()}")
    found = {
        task: [Path(str(file.locate())) for file in files if file.match(f"rapidocr/models/*_{task}_*.onnx")]
        for task in ("det", "cls", "rec")
    }
    if not all(len(paths) == 1 and paths[0].is_file() for paths in found.values()):
        raise ConfigError(
            f"ocr: rapidocr is installed without its networks: {_install('--force-reinstall --no-deps rapidocr')}"
        )
    return {task: paths[0] for task, paths in found.items()}


def _install(what: str = f'-r "{REQUIREMENTS}"') -> str:
    return f'run "{sys.executable}" -m pip install {what} and restart'


def _engine(models: dict[str, Path]) -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:  # it needs OpenCV, which another pack may have broken
        raise ConfigError(f"ocr: rapidocr cannot be imported ({error}): {_install()}") from error
    settings = {
        "Global.use_cls": False,
        "Global.text_score": 0.0,
        "Global.log_level": "error",
        "EngineConfig.onnxruntime.intra_op_num_threads": min(MAX_THREADS, torch.get_num_threads()),
        **{f"{task.capitalize()}.model_path": str(path) for task, path in models.items()},
    }
    return RapidOCR(params=settings)
