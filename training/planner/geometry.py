"""The shape of a base without its weights, and how many parameters each part holds."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig

from rm_core.checkpoints.load import head_of
from rm_core.checkpoints.processor import read_pixel_rules, read_tokenizer
from rm_core.encode import Encoder
from rm_core.errors import InvalidInput
from rm_core.geometry import config_of
from rm_core.heads import HeadKind
from rm_core.images import PixelRules
from rm_core.model import RewardModel
from training import lora
from training.config import FromCheckpoint, FromScratch, LoraSpec, Part
from training.optim import parts

KNOWN = {
    "Qwen/Qwen2.5-VL-3B-Instruct": "qwen2.5-vl-3b",
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2.5-vl-7b",
    "Skywork/Skywork-VL-Reward-7B": "qwen2.5-vl-7b",
}


@dataclass(frozen=True)
class Origin:
    """A base's shape; `encoder` is None where no tokenizer is at hand."""

    config: Qwen2_5_VLConfig
    encoder: Encoder | None
    head: HeadKind = "linear+bias"


def origin_of(base: FromCheckpoint | FromScratch, seed: int) -> Origin:
    """Of a local folder, a base made from nothing, or a released one; nothing is downloaded."""
    if isinstance(base, FromScratch):
        return _from_scratch(seed)
    folder = Path(base.source).expanduser()
    if (folder / "config.json").is_file():
        rules = read_pixel_rules(folder)
        if base.max_pixels is not None:
            rules = replace(rules, max_pixels=base.max_pixels)
        encoder = Encoder(read_tokenizer(folder), rules)
        head = base.head or head_of(folder)
        return Origin(Qwen2_5_VLConfig.from_pretrained(folder), encoder, head)
    if base.source.partition("@")[0] in KNOWN:
        config = config_of(KNOWN[base.source.partition("@")[0]])
        return Origin(config, None, base.head or "linear+bias")
    raise InvalidInput(
        f"the shape of {base.source} is not known here; name a folder that holds its config.json "
        f"and tokenizer, or one of {', '.join(KNOWN)}"
    )


def _from_scratch(seed: int) -> Origin:
    from training.base.model import RULES, make_config
    from training.base.tokenizer import make_tokenizer

    tokenizer = make_tokenizer(seed)
    return Origin(make_config(tokenizer), Encoder(tokenizer, RULES))


def count_parameters(config: Qwen2_5_VLConfig, head: HeadKind) -> dict[Part, int]:
    """Parameters by part, counted on the model itself, built without memory for its weights."""
    model = _without_memory(config, head)
    return {part: sum(p.numel() for _, p in named) for part, named in parts(model).items()}


def count_adapters(config: Qwen2_5_VLConfig, spec: LoraSpec | None) -> int:
    """Parameters that adapters add to the decoder."""
    if spec is None:
        return 0
    model = _without_memory(config, "linear")
    lora.attach(model, spec, seed=0)
    return sum(p.numel() for name, p in model.named_parameters() if lora.MARK in name)


def _without_memory(config: Qwen2_5_VLConfig, head: HeadKind) -> RewardModel:
    # A model marks its configuration with our attention, and no second one is built on that.
    with torch.device("meta"):
        return RewardModel(deepcopy(config), PixelRules(), head=head)
