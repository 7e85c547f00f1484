"""The same answers on the stock modules of transformers, one conversation a forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from rm_core import attention
from rm_core.encode import EncodedGroup
from rm_core.model import RewardModel


@torch.inference_mode()
def score_one_by_one(model: RewardModel, groups: Sequence[EncodedGroup]) -> list[float]:
    """The model card's way: prompt and picture again for every answer."""
    with stock_attention(model):
        return [_score(model, group, ids) for group in groups for ids in group.answer_ids]


@contextmanager
def stock_attention(model: RewardModel) -> Iterator[None]:
    """transformers' own SDPA path instead of ours."""
    modules = (model.backbone, model.backbone.language_model, model.backbone.visual)
    try:
        for module in modules:
            module.config._attn_implementation = "sdpa"
        yield
    finally:
        for module in modules:
            module.config._attn_implementation = attention.NAME


def _score(model: RewardModel, group: EncodedGroup, answer: np.ndarray) -> float:
    ids_1T = torch.from_numpy(np.concatenate([group.prefix_ids_P, answer]))[None].to(model.device)
    output = model.backbone(
        input_ids=ids_1T,
        attention_mask=torch.ones_like(ids_1T),
        mm_token_type_ids=(ids_1T == model.image_pad_id).int(),
        use_cache=False,
        **_pictures(model, group),
    )
    last_D = output.last_hidden_state[0, -1]
    return float(model.head(last_D[None].float()).item())


def _pictures(model: RewardModel, group: EncodedGroup) -> dict[str, Tensor]:
    if not group.images:
        return {}
    patches = torch.from_numpy(np.concatenate([image.patches for image in group.images]))
    return {
        "pixel_values": model.normalize(patches.to(model.device)),
        "image_grid_thw": torch.tensor([image.grid_thw for image in group.images]),
    }
