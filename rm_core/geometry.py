"""Known shapes of Qwen2.5-VL: what the released config.json decides, without any weights."""

from typing import Any

from transformers import Qwen2_5_VLConfig

from rm_core.errors import UnknownName

_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
}
GEOMETRIES: dict[str, dict[str, Any]] = {
    "qwen2.5-vl-7b": {
        "text_config": {
            "vocab_size": 152_064,
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
        "vision_config": {**_TOWER, "out_hidden_size": 3584},
    },
    "qwen2.5-vl-3b": {
        "text_config": {
            "vocab_size": 151_936,
            "hidden_size": 2048,
            "intermediate_size": 11_008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        "vision_config": {**_TOWER, "out_hidden_size": 2048},
    },
    # For machines without a GPU: every layer kind, a few seconds on two cores.
    "small": {
        "text_config": {
            "vocab_size": 8_192,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 8,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [8, 12, 12],
            },
        },
        "vision_config": {
            "depth": 8,
            "hidden_size": 480,
            "intermediate_size": 1280,
            "num_heads": 6,
            "fullatt_block_indexes": [3, 7],
            "window_size": 112,
            "out_hidden_size": 768,
        },
    },
}


def config_of(name: str) -> Qwen2_5_VLConfig:
    """The configuration of a known shape; an unknown name lists those there are."""
    if name not in GEOMETRIES:
        raise UnknownName("geometry", name, list(GEOMETRIES))
    shape = GEOMETRIES[name]
    released = shape["text_config"]["vocab_size"] > 151_655
    whole: dict[str, Any] = {key: dict(part) for key, part in shape.items()}
    if not released:
        whole["image_token_id"] = 10  # the released one is beyond this vocabulary
    return Qwen2_5_VLConfig(**whole)
