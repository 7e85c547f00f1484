"""Small random checkpoints in every layout, and a byte-level tokenizer to go with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from bench.qwen_tokenizer import PLAIN_ADDED, SPECIAL
from rm_core.checkpoints.processor import write_processor
from rm_core.images import PixelRules

RULES = PixelRules(max_pixels=28 * 28 * 36)
TOKENS = ("image_pad", "video_pad", "vision_start", "vision_end")


def byte_tokenizer() -> Tokenizer:
    """No merges at all: every byte is a token. Enough for shape, order and integrity tests."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in PLAIN_ADDED])
    return tokenizer


def small_config(tokenizer: Tokenizer) -> Qwen2_5_VLConfig:
    """Real geometry made small: grouped queries, windows and one full-attention vision block."""
    ids: dict[str, Any] = {token: tokenizer.token_to_id(f"<|{token}|>") for token in TOKENS}
    return Qwen2_5_VLConfig(
        text_config={
            "bos_token_id": None,
            "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [2, 3, 3],
            },
        },
        vision_config={
            "depth": 3,
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [2],
            "window_size": 56,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )


def stock_model(config: Qwen2_5_VLConfig, seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """transformers' own model with random weights large enough to spread the scores."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.train(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


def random_head(hidden: int, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "v_head.summary.weight": torch.randn(1, hidden, generator=generator) / hidden**0.5,
        "v_head.summary.bias": torch.randn(1, generator=generator),
    }


def new_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors


def old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names transformers wrote before 4.52, as in the released checkpoint."""

    def rename(name: str) -> str:
        name = name.replace("model.language_model.", "model.")
        return name.replace("model.visual.", "visual.")

    return {rename(name): tensor for name, tensor in tensors.items()}


def write_random_checkpoint(
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    names: Callable[[dict[str, Tensor]], dict[str, Tensor]] = old_names,
    shards: int = 2,
    seed: int = 0,
) -> Path:
    """The released layout: sharded backbone with its lm_head, and value_head.safetensors."""
    tokenizer = tokenizer or byte_tokenizer()
    config = small_config(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    model = stock_model(config, seed)
    write_shards(folder, names(dict(model.state_dict())), shards)
    hidden = config.get_text_config().hidden_size
    save_file(random_head(hidden), folder / "value_head.safetensors")
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    config.save_pretrained(folder)
    write_processor(folder, tokenizer, RULES)
    return folder


def write_shards(folder: Path, tensors: dict[str, Tensor], shards: int) -> None:
    """Split by name as the hub does, with an index."""
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    weight_map = {name: files[i % shards] for i, name in enumerate(sorted(tensors))}
    for file in files:
        part = {
            n: tensors[n].clone().contiguous() for n, home in weight_map.items() if home == file
        }
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
