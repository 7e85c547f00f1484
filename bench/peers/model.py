"""The checkpoint every peer serves: Qwen2.5-VL's geometry made small, random weights from a seed.

The vocabulary is the real one. The weights are scaled so that a score depends on all of the
picture and the text; with transformers' own initialisation every answer gets nearly one score.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig

from bench import qwen_tokenizer
from rm_core.checkpoints import save
from rm_core.encode import Encoder
from rm_core.images import PixelRules
from rm_core.model import RewardModel

RULES = PixelRules(max_pixels=28 * 28 * 256)
TOKENS = ("image_pad", "video_pad", "vision_start", "vision_end")
GAIN, SHARPNESS, HEAD_GAIN = 1.0, 1.5, 1.5


def write(folder: Path, seed: int = 0) -> Path:
    """The released layout in float32, about 96 million parameters; the same file for one seed."""
    tokenizer = qwen_tokenizer.build(folder.parent / "qwen2.5-tokenizer.json")
    model = RewardModel(config(tokenizer), RULES)
    fill(model, torch.Generator().manual_seed(seed))
    save(folder, model, Encoder(tokenizer, RULES), name="bench", dtype=torch.float32)
    return folder


def config(tokenizer: Tokenizer) -> Qwen2_5_VLConfig:
    ids: dict[str, Any] = {token: tokenizer.token_to_id(f"<|{token}|>") for token in TOKENS}
    return Qwen2_5_VLConfig(
        text_config={
            "bos_token_id": None,
            "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [8, 12, 12],
            },
        },
        vision_config={
            "depth": 8,
            "hidden_size": 320,
            "intermediate_size": 960,
            "num_heads": 5,
            "out_hidden_size": 384,
            "fullatt_block_indexes": [3, 7],
            "window_size": 112,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )


@torch.no_grad()
def fill(model: nn.Module, generator: torch.Generator) -> None:
    """Every parameter from `generator`, in the order of the module's own listing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, _std(name, parameter), generator=generator)
        else:
            # Norms keep one, biases zero: what is left of a reward head's bias is its own draw.
            parameter.fill_(1.0 if "norm" in name or "ln_q" in name else 0.0)


def _std(name: str, parameter: Tensor) -> float:
    fan_in = parameter[0].numel()
    if "embed_tokens" in name:
        return 0.3
    gain = {"q_proj": SHARPNESS, "k_proj": SHARPNESS, "head": HEAD_GAIN}
    return float(gain.get(name.split(".")[-2], GAIN) / fan_in**0.5)
