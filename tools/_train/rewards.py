"""Rewards from the descriptions in recipes: the inverse of pave_core's scoring/score.py describe().

What is made is described again and compared, so that a recipe never trains toward something else than it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _cuda.host import pack_module
from _host.package import ROOT

errors = pack_module("pave_core.errors")
ConfigError, quoted = errors.ConfigError, errors.quoted
describe = pack_module("pave_core.scoring.score").describe
RewardMix = pack_module("pave_core.scoring.mix").RewardMix
STATISTICS = pack_module("pave_core.rewards.statistics").STATISTICS
weight_files = pack_module("pave_core.rewards.networks.weight_files")
registry = pack_module("pave_core.rewards.registry")

TINY = ROOT / "assets" / "tiny"
BY_NODES: str = pack_module("pave_core.runs.recipe").SCORED_BY_NODES
Said = Mapping[str, Any]


@dataclass(frozen=True)
class Makers:
    """What rewards are made with.

    compute: (precision, batch_size) -> a Compute. files: the reward models that there are. allow_remote: whether a
    judge on another machine may be asked, which PAVE_JUDGE_HOSTS must name as well; key_variable: as of Endpoint.
    check: what a judge calls while it waits.
    """

    compute: Callable[[str, int], Any]
    files: Callable[[], list[Path]]
    check: Callable[[], None]
    allow_remote: bool = False
    key_variable: str = ""

    def reward(self, said: Any, where: str = "reward") -> Any:
        """The reward, or the mix, that a description is of. ConfigError where it cannot be made."""
        if said == BY_NODES:
            raise ConfigError(
                f"{where}: it was {BY_NODES}, which are not in the recipe: write a reward there, such as "
                '{"name": "clip", ...}'
            )
        if not isinstance(said, Mapping):
            raise ConfigError(f"{where}: {quoted(said)} describes no reward: copy one from the recipe of a LoRA")
        try:
            made = self._mix(said, where) if "rewards" in said else self._single(said, where)
        except (TypeError, LookupError, AttributeError) as error:
            raise ConfigError(
                f"{where}: {quoted(dict(said))} lacks or misplaces {error}: copy it from a recipe"
            ) from error
        again = made.describe() if isinstance(made, RewardMix) else describe(made)
        if json.loads(json.dumps(again)) != {k: v for k, v in said.items() if k in again or k != "name"}:
            raise ConfigError(f"{where}: {quoted(dict(said))} would become {quoted(again)}: write it like that")
        return made

    def _mix(self, said: Said, where: str) -> Any:
        parts = [self.reward(each, f"{where}.rewards[{i}]") for i, each in enumerate(said["rewards"])]
        return RewardMix(tuple(parts), tuple(said["weights"]), said["normalise"])

    def _single(self, said: Said, where: str) -> Any:
        name = said["name"]
        if name in STATISTICS:
            return _of("statistics").StatisticReward(name, said["direction"], said.get("target", 0.0))
        if name in registry.registered():
            return registry.make(name)
        make = {
            "colour": self._colour,
            "jpeg size": lambda said, where: _of("jpeg").JPEGSize(said["prefer"]),
            "ocr": lambda said, where: _of("ocr").OCR(),
            "clip": self._clip,
            "clip contrast": self._clip_contrast,
            "hps": self._hps,
            "pickscore": self._pickscore,
            "imagereward": self._image_reward,
            "aesthetic v2": self._aesthetic,
            "aesthetic v2.5": self._aesthetic_v25,
            "preference": self._preference,
            "taste": self._taste,
            "adherence": lambda said, where: _of("shapes").Adherence(TINY / "shape_classifier.safetensors"),
            "judge": self._judge,
        }
        if name not in make:
            raise ConfigError(
                f"{where}: {quoted(name)} is no reward that a program can make from its description: use one of "
                f"{', '.join([*make, *STATISTICS])}, or train it in ComfyUI, where its pack is"
            )
        return make[name](said, where)

    def _colour(self, said: Said, where: str) -> Any:
        return _of("colour").ColourReward(*(said[name] for name in ("red", "green", "blue", "softness")))

    def _clip(self, said: Said, where: str) -> Any:
        return _of("clip_score").CLIPScore(*self._open_clip(said, where), self.compute(said["precision"], 16))

    def _clip_contrast(self, said: Said, where: str) -> Any:
        files, compute = self._open_clip(said, where), self.compute(said["precision"], 16)
        return _of("clip_contrast").CLIPContrast(*files, compute, against=said["against"], scale=said["scale"])

    def _hps(self, said: Said, where: str) -> Any:
        return _of("hps").HPSv2(self._file(said, "weights", where), self.compute(said["precision"], 16))

    def _pickscore(self, said: Said, where: str) -> Any:
        return _of("pickscore").PickScore(self._file(said, "weights", where), self.compute(said["precision"], 16))

    def _image_reward(self, said: Said, where: str) -> Any:
        files = (self._file(said, name, where) for name in ("weights", "vocabulary"))
        return _of("image_reward").ImageReward(*files, self.compute(said["precision"], 16))

    def _aesthetic(self, said: Said, where: str) -> Any:
        files = (self._file(said, name, where) for name in ("clip", "head"))
        return _of("aesthetic").Aesthetic(*files, self.compute(said["precision"], 16))

    def _aesthetic_v25(self, said: Said, where: str) -> Any:
        files = (self._file(said, name, where) for name in ("siglip", "head"))
        return _of("aesthetic").AestheticV25(*files, self.compute(said["precision"], 8))

    def _preference(self, said: Said, where: str) -> Any:
        head, clip = (self._file(said, name, where) for name in ("head", "clip"))
        compute = self.compute(said["precision"], 16)
        return _of("preference").TinyPreference(head, clip, TINY / "open_clip_config.json", compute)

    def _taste(self, said: Said, where: str) -> Any:
        taste = pack_module("pave_core.person.taste")
        features = taste.ClipFeatures(*self._open_clip(said, where), self.compute(said["precision"], 16))
        return taste.TasteReward(self._file(said, "taste", where), features)

    def _judge(self, said: Said, where: str) -> Any:
        apis, http = _of("http.apis"), _of("http.endpoint")
        endpoint = http.Endpoint(said["base_url"], self.allow_remote, key_variable=self.key_variable)
        if said["api"] == "scores":
            api = apis.Scorer()
        else:
            rule = _of("http.replies").ParseRule(said["rule"]["kind"], said["rule"]["pattern"])
            api = apis.Chat(said["model"], said["instruction"], rule, said["max_tokens"])
        return _of("judge").Judge(endpoint, api, check=self.check)

    def _open_clip(self, said: Said, where: str) -> tuple[Path, str | Path]:
        """The weights and the architecture of a CLIP: the name of one, or the config beside the weights."""
        weights, architecture = self._file(said, "weights", where), said["architecture"]
        beside = [weights.with_suffix(".json"), weights.parent / "open_clip_config.json"]
        return weights, next((file for file in beside if file.name == architecture and file.is_file()), architecture)

    def _file(self, said: Said, field: str, where: str) -> Path:
        """The file that a record (weight_files.file_record) is of, whatever folder it is in."""
        record = said[field]
        for path in (*sorted(TINY.iterdir()), *self.files()):
            if path.name == record["file"] and weight_files.file_record(path) == record:
                return path
        raise ConfigError(
            f"{where}.{field}: there is no {quoted(record['file'])} of {quoted(record['bytes'])} bytes among the "
            "reward models: put it into models/reward_models"
        )


def _of(name: str) -> Any:
    """A module of the core's rewards."""
    return pack_module(f"pave_core.rewards.{name}")
