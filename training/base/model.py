"""The small stand-in's shape and how its decoder starts: ready to match and to copy."""

from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig

from rm_core.images import PixelRules
from rm_core.model import RewardModel

SIDE_PX = 56  # four picture tokens, a quarter each: more would not pay within minutes on a CPU
RULES = PixelRules(min_pixels=SIDE_PX**2, max_pixels=SIDE_PX**2)
WIDTH, LAYERS, HEADS, KEY_HEADS, INNER = 128, 4, 4, 2, 352
MATCHING_LAYERS = 2


def make_config(tokenizer: Tokenizer) -> Qwen2_5_VLConfig:
    text = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "max_position_embeddings": 4096,
        # Fast frequencies come first and go to time, then row, then column. With the released
        # split of a head this narrow the column would turn too slowly to be told apart.
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [1, 1, 14],
        },
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
    }
    vision = {
        "depth": 4,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_heads": 4,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0, 1, 2, 3],
    }
    control_ids: dict[str, Any] = {
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **control_ids)


def start_decoder(model: RewardModel, mark_D: Tensor) -> None:
    """Queries equal to keys find equal words, in pictures first; the outputs copy what was found.

    Without this start a model this small stays at chance for as long as we can afford to train it.
    """
    with torch.no_grad():
        for number, layer in enumerate(model.backbone.language_model.layers):
            scale = WIDTH**-0.5
            for matrix in (layer.self_attn.v_proj, layer.mlp.gate_proj, layer.mlp.up_proj):
                matrix.weight.normal_(0.0, scale)
            for matrix in (layer.self_attn.o_proj, layer.mlp.down_proj):
                matrix.weight.normal_(0.0, scale * 0.5 / LAYERS**0.5)
            if number < MATCHING_LAYERS:
                _match(layer.self_attn)
                _copy(layer.self_attn)
                _seek(layer.self_attn, mark_D)
        model.backbone.visual.merger.mlp[-1].bias.add_(mark_D)
        assert isinstance(model.head, nn.Linear)
        model.head.weight.normal_(0.0, 0.02)
        model.head.bias.zero_()


def _match(attention: Any) -> None:
    """Every second query head is its key head; its twin starts from it, a little off."""
    keys = torch.randn_like(attention.k_proj.weight) * WIDTH**-0.5
    heads = keys.view(KEY_HEADS, 1, -1, WIDTH).repeat(1, HEADS // KEY_HEADS, 1, 1)
    heads[:, 1:] += 0.5 * WIDTH**-0.5 * torch.randn_like(heads[:, 1:])
    attention.k_proj.weight.copy_(keys)
    attention.q_proj.weight.copy_(heads.reshape(WIDTH, WIDTH))


def _copy(attention: Any, strength: float = 0.5) -> None:
    """Values look at an orthonormal share of the width, and the output puts it back in place."""
    values = _orthonormal(attention.v_proj.weight)
    attention.v_proj.weight.copy_(values)
    heads = values.view(KEY_HEADS, 1, -1, WIDTH).repeat(1, HEADS // KEY_HEADS, 1, 1)
    attention.o_proj.weight.copy_(strength * heads.reshape(WIDTH, WIDTH).T)


def _seek(attention: Any, mark_D: Tensor, strength: float = 2.0) -> None:
    """Keys with the picture mark attract every query, through the slowest-turning pair of a head.

    A word matches itself best of all; without this pull it would hardly look at the picture.
    """
    size = WIDTH // HEADS
    slow, partner = size // 2 - 1, size - 1
    for projection, heads in ((attention.q_proj, HEADS), (attention.k_proj, KEY_HEADS)):
        weight, bias = projection.weight.view(heads, size, WIDTH), projection.bias.view(heads, size)
        weight[:, [slow, partner]] = 0.0
        if projection is attention.q_proj:
            bias[:, slow] = strength
        else:
            weight[:, slow] = strength * mark_D


def _orthonormal(like: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(like.shape[1], like.shape[0])).Q
    return basis.T
