"""The model card's steps on stock transformers, one conversation at a time: the oracle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rm_core.types import ImagePart, ScoreGroup, TextPart, Turn

# Qwen2.5-VL's template as the released tokenizer carries it, from public descriptions; written
# here a second time on purpose: the oracle shares no line with rm_core.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
)


class ModelCard:
    """Tokenizer, processor, model and head as the card loads them; batch of one, no packing."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        self.model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa"
        )
        self.model.train(False)
        head = load_file(folder / "value_head.safetensors")
        self.weight = head["v_head.summary.weight"].to(dtype)
        self.bias = head["v_head.summary.bias"].to(dtype)
        self.dtype = dtype

    def score(self, group: ScoreGroup) -> list[float]:
        return [self._score_one(group, response) for response in group.responses]

    @torch.no_grad()
    def _score_one(self, group: ScoreGroup, response: str) -> float:
        turns = (*group.conversation.turns, Turn("assistant", (TextPart(response),)))
        text = self.tokenizer.apply_chat_template(
            [message(turn) for turn in turns], chat_template=TEMPLATE, tokenize=False
        )
        inputs = self._pictures([image.pixels for image in group.conversation.images])
        text = self._expand(str(text), inputs.get("image_grid_thw"))
        tokens = self.tokenizer(text, return_tensors="pt")
        is_image = tokens["input_ids"] == self.model.config.image_token_id
        output = self.model(
            **tokens,
            **inputs,
            mm_token_type_ids=is_image.int(),
            use_cache=False,
            output_hidden_states=True,
        )
        last = int(tokens["attention_mask"].sum()) - 1
        hidden: Tensor = output.hidden_states[-1][0, last]
        return float((self.weight @ hidden + self.bias).item())

    def _pictures(self, pixels: Sequence[Any]) -> dict[str, Tensor]:
        if not pixels:
            return {}
        # The processor's own arithmetic, in the precision of the comparison: normalising in
        # float32 first would hide 1e-8 of difference from a float64 check.
        raw = self.processor(
            [Pillow.fromarray(p) for p in pixels],
            do_rescale=False,
            do_normalize=False,
            return_tensors="pt",
        )
        colours = raw["pixel_values"].to(self.dtype).view(len(raw["pixel_values"]), 3, -1)
        mean, std = (
            torch.tensor(values, dtype=self.dtype)[:, None]
            for values in (self.processor.image_mean, self.processor.image_std)
        )
        normal = (colours * self.processor.rescale_factor - mean) / std
        return {"pixel_values": normal.flatten(1), "image_grid_thw": raw["image_grid_thw"]}

    def _expand(self, text: str, grids: Tensor | None) -> str:
        for grid in [] if grids is None else grids:
            count = int(grid.prod()) // self.processor.merge_size**2
            text = text.replace("<|image_pad|>", "<|placeholder|>" * count, 1)
        return text.replace("<|placeholder|>", "<|image_pad|>")


def message(turn: Turn) -> dict[str, Any]:
    return {"role": turn.role, "content": [_content(part) for part in turn.parts]}


def _content(part: TextPart | ImagePart) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image"}
