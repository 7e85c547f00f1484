"""The model card's steps on stock transformers, in padded batches: what a peer would write.

Runs in every peer's own environment, so it imports nothing of ours.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

PICTURE = "<|image_pad|>"


@dataclass(frozen=True)
class Ask:
    """One answer to score, as it comes over the wire."""

    picture: bytes | None
    question: str
    answer: str

    @classmethod
    def read(cls, body: dict[str, Any]) -> "Ask":
        picture = body["picture"]
        decoded = None if picture is None else base64.b64decode(picture)
        return cls(decoded, body["question"], body["answer"])


def load_backbone(folder: Path) -> Any:
    """The inner model; the outer class reads both spellings of the names, the inner only one."""
    loaded: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    outer, report = loaded
    if missing := set(report["missing_keys"]) - {"lm_head.weight"}:
        raise ValueError(f"{folder}: transformers found no {', '.join(sorted(missing)[:5])}")
    return outer.model.eval()


class StockScorer:
    """`Qwen2_5_VLModel` and the value head, float32 on the CPU."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="right")
        self.processor: Any = Qwen2VLImageProcessorPil.from_pretrained(folder)
        self.model = load_backbone(folder)
        head = load_file(folder / "value_head.safetensors")
        self.weight, self.bias = head["v_head.summary.weight"], head["v_head.summary.bias"]

    @torch.inference_mode()
    def score(self, asks: Sequence[Ask]) -> list[float]:
        """One padded forward over all of them."""
        pictures = [Image.open(io.BytesIO(ask.picture)) for ask in asks if ask.picture]
        pixels = self.processor(pictures, return_tensors="pt") if pictures else {}
        grids = iter(pixels.get("image_grid_thw", ()))
        texts = [self._text(ask, grids) for ask in asks]
        tokens = self.tokenizer(texts, return_tensors="pt", padding=True)
        is_picture = tokens["input_ids"] == self.model.config.image_token_id
        output = self.model(**tokens, **pixels, mm_token_type_ids=is_picture.int(), use_cache=False)
        last = tokens["attention_mask"].sum(1) - 1
        hidden = output.last_hidden_state[torch.arange(len(asks)), last]
        scores: list[float] = (hidden @ self.weight.T + self.bias).squeeze(-1).tolist()
        return scores

    def _text(self, ask: Ask, grids: Any) -> str:
        content = [{"type": "image"}] if ask.picture else []
        content.append({"type": "text", "text": ask.question})
        turns = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": ask.answer}]},
        ]
        text = str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        if ask.picture:
            count = int(next(grids).prod()) // self.processor.merge_size**2
            text = text.replace(PICTURE, PICTURE * count, 1)
        return text
