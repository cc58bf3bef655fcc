"""A folder with a diffusers pipeline: what is in it, and what of it is missing.

Nothing is downloaded, and no file's code is run: parts are classes of diffusers and transformers, weights safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from ...errors import ConfigError, PaveError, in_words, quoted
from ...files import require_header, require_plain
from ...packages import needed
from .families import family_of

REQUIREMENTS = ("diffusers>=0.36", "transformers>=4.51")
INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
"""Where the classes of parts may come from."""
NETWORK, GGUF = "transformer", ".gguf"
MAX_INDEX = 1_000_000  # bytes
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""What a pipeline can be loaded in."""


def pipelines_in(parents: Iterable[Path]) -> dict[str, Path]:
    """{name: folder} of the pipelines that lie in these folders."""
    return {file.parent.name: file.parent for parent in parents for file in parent.glob(f"*/{INDEX}")}


def load(folder: Path, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The pipeline in `folder`, in evaluation mode on the CPU.

    Its network may be quantised as diffusers has saved it (bitsandbytes, torchao), or be one .gguf in the folder
    transformer, beside its config.json. ConfigError for a folder that is no pipeline, one of another kind, and for
    parts that are missing or damaged, each by its name.
    """
    index = _index(folder)
    name = str(index.get("_class_name"))
    family_of(name)
    parts = {part: each for part, each in index.items() if isinstance(each, list) and each != [None, None]}
    for part, each in parts.items():
        if len(each) != 2 or each[0] not in LIBRARIES:
            raise ConfigError(
                f"pipeline: {part} of {folder.name} is {quoted(each)}: parts can be classes of "
                f"{' and '.join(LIBRARIES)}"
            )
        _check_part(folder / part)
    with needed("pipeline", *REQUIREMENTS):
        import diffusers
    try:
        quantised = _quantised(folder, parts, dtype)
        pipeline = getattr(diffusers, name).from_pretrained(
            folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True, **quantised
        )
    except PaveError:
        raise
    except Exception as error:  # whatever its parts raise
        raise ConfigError(
            f"pipeline: {folder.name} cannot be loaded ({in_words(error)}): download the whole folder again, and "
            "install what it names (pip install -U diffusers transformers, and gguf, torchao or bitsandbytes for "
            "weights of these)"
        ) from error
    if getattr(pipeline, "transformer_2", None) is not None:
        raise ConfigError(
            f"pipeline: {folder.name} has two networks, one for high and one for low noise (Wan 2.2): choose a model "
            "of one"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _quantised(folder: Path, parts: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """{"transformer": the network} where its weights are a GGUF; else nothing."""
    files = list((folder / NETWORK).glob(f"*{GGUF}"))
    if not files or NETWORK not in parts:
        return {}
    import diffusers

    kind = getattr(diffusers, str(parts[NETWORK][1]), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise ConfigError(f"pipeline: {INDEX} of {folder.name} has no network of diffusers: download it again")
    network: Any = kind.from_single_file(  # pyright: ignore[reportAttributeAccessIssue]
        str(files[0]),
        config=str(folder / NETWORK),
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype),
        torch_dtype=dtype,
        local_files_only=True,
    )
    return {NETWORK: network}


def _index(folder: Path) -> dict[str, Any]:
    file = folder / INDEX
    if not file.is_file():
        raise ConfigError(
            f"pipeline: {folder.name} has no {INDEX}, so that it is no folder of a diffusers pipeline: choose the "
            "folder that holds it, beside transformer and vae"
        )
    require_plain(file, "pipeline", MAX_INDEX)
    try:
        index = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"pipeline: {INDEX} of {folder.name} is damaged ({error}): download it again") from error
    if not isinstance(index, dict):
        raise ConfigError(f"pipeline: {INDEX} of {folder.name} is no group of values: download it again")
    return index


def _check_part(part: Path) -> None:
    """ConfigError for a part that is not there, and for weights of it that are missing or cut off."""
    if not part.is_dir() or not any(part.iterdir()):
        raise ConfigError(f"pipeline: the part {part.name} is missing: put it into {part}")
    files, quantised = list(_weights(part)), list(part.glob(f"*{GGUF}")) if part.name == NETWORK else []
    if len(quantised) > 1 or (quantised and files):
        names = ", ".join(file.name for file in [*files, *quantised][:3])
        raise ConfigError(f"pipeline: {part.name} has weights twice, {names}: leave one of them in {part}")
    if not files and not quantised and (part / "config.json").is_file():
        raise ConfigError(
            f"pipeline: the part {part.name} has no .safetensors, the only files of weights that are read: download "
            f"them into {part}"
        )
    for file in files:
        if not file.is_file():
            raise ConfigError(f"pipeline: {part.name}/{file.name} is missing: download it into {part}")
        require_header(file, "pipeline")
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            try:
                header = json.loads(opened.read(length))
                ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
                whole = 8 + length + max(ends, default=0)
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                raise ConfigError(
                    f"pipeline: {part.name}/{file.name} is no safetensors file ({in_words(error)}): download it again"
                ) from error
        if file.stat().st_size < whole:
            raise ConfigError(
                f"pipeline: {part.name}/{file.name} has {file.stat().st_size:,} of {whole:,} bytes: download it again"
            )


def _weights(part: Path) -> Iterator[Path]:
    """The files of a part's weights: those that its indices name, and those that are there."""
    found = set(part.glob("*.safetensors"))
    for index in part.glob("*.safetensors.index.json"):
        try:
            names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ConfigError(
                f"pipeline: {part.name}/{index.name} is damaged ({in_words(error)}): download it again"
            ) from error
        found |= {part / Path(str(name)).name for name in names}
    return iter(sorted(found))
