"""Tokenizer, pixel rules and chat template of a checkpoint, refused where we would differ."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from rm_core.chat import CHAT_TEMPLATE, render
from rm_core.errors import CheckpointError
from rm_core.images import PixelRules
from rm_core.types import Conversation, Image, ImagePart, TextPart, Turn

TOKENIZER, PREPROCESSOR, PROCESSOR = (
    "tokenizer.json",
    "preprocessor_config.json",
    "processor_config.json",
)
TEMPLATE = "chat_template.jinja"
BICUBIC = 3


def read_tokenizer(folder: Path) -> Tokenizer:
    if not (folder / TOKENIZER).exists():
        raise CheckpointError(
            f"{folder}: no {TOKENIZER}; save the fast tokenizer beside the weights"
        )
    return Tokenizer.from_file(str(folder / TOKENIZER))


def read_pixel_rules(folder: Path) -> PixelRules:
    """The checkpoint's own budget and normalisation, in either spelling."""
    config = _preprocessor(folder)
    if config.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(f"{folder}: resample={config['resample']}; only bicubic (3) is known")
    size = config.get("size", {})
    defaults = PixelRules()
    return PixelRules(
        min_pixels=config.get("min_pixels") or size.get("shortest_edge") or defaults.min_pixels,
        max_pixels=config.get("max_pixels") or size.get("longest_edge") or defaults.max_pixels,
        patch_size=config.get("patch_size", defaults.patch_size),
        merge_size=config.get("merge_size", defaults.merge_size),
        temporal_patch_size=config.get("temporal_patch_size", defaults.temporal_patch_size),
        image_mean=tuple(config.get("image_mean", defaults.image_mean)),
        image_std=tuple(config.get("image_std", defaults.image_std)),
    )


def check_template(folder: Path) -> None:
    """Refuse a checkpoint whose template writes another text than we score."""
    template = _template(folder)
    if template is None or template == CHAT_TEMPLATE:
        return
    try:
        written = ImmutableSandboxedEnvironment().from_string(template).render(messages=_messages())
    except (TemplateError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: its chat template cannot be rendered ({error})"
        ) from error
    if written != render(_PROBE, "fine"):
        raise CheckpointError(
            f"{folder}: its chat template is not Qwen2.5-VL's, so our scores would not be its own; "
            f"it writes {written[:200]!r}"
        )


def write_processor(folder: Path, tokenizer: Tokenizer, rules: PixelRules) -> None:
    """The files other tools read: tokenizer, preprocessor and template."""
    tokenizer.save(str(folder / TOKENIZER))
    (folder / TEMPLATE).write_text(CHAT_TEMPLATE)
    config = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "size": {"shortest_edge": rules.min_pixels, "longest_edge": rules.max_pixels},
        "patch_size": rules.patch_size,
        "merge_size": rules.merge_size,
        "temporal_patch_size": rules.temporal_patch_size,
        "image_mean": rules.image_mean,
        "image_std": rules.image_std,
        "resample": BICUBIC,
    }
    (folder / PREPROCESSOR).write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG, indent=2) + "\n")


def _preprocessor(folder: Path) -> dict[str, Any]:
    if (folder / PREPROCESSOR).exists():
        config: dict[str, Any] = json.loads((folder / PREPROCESSOR).read_text())
        return config
    if (folder / PROCESSOR).exists():
        nested: dict[str, Any] = json.loads((folder / PROCESSOR).read_text())["image_processor"]
        return nested
    raise CheckpointError(f"{folder}: no {PREPROCESSOR}; the pixel budget decides the score")


def _template(folder: Path) -> str | None:
    if (folder / TEMPLATE).exists():
        return (folder / TEMPLATE).read_text()
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).exists():
            template = json.loads((folder / name).read_text()).get("chat_template")
            if isinstance(template, str):
                return template
    return None


def _messages() -> list[dict[str, Any]]:
    return [
        {"role": turn.role, "content": [_content(part) for part in turn.parts]}
        for turn in (*_PROBE.turns, Turn("assistant", (TextPart("fine"),)))
    ]


def _content(part: ImagePart | TextPart) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image", "image": "probe"}


_PIXEL = Image.from_pixels(np.zeros((1, 1, 3), np.uint8))
_PROBE = Conversation(
    (
        Turn("user", (TextPart("one"), ImagePart(_PIXEL))),
        Turn("assistant", (TextPart(" two\n"),)),
        Turn("user", (ImagePart(_PIXEL), ImagePart(_PIXEL), TextPart("three"))),
    )
)
_TOKENIZER_CONFIG = {
    "tokenizer_class": "Qwen2Tokenizer",
    "padding_side": "right",
    "pad_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
}
