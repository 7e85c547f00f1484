"""RewardModel: the inner Qwen2.5-VL (no vocabulary head) and a reward head in full precision."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from rm_core import attention, heads
from rm_core.images import PixelRules
from rm_core.packing import PackedBatch
from rm_core.prefixes import Past


class RewardModel(nn.Module):
    """Scores the last token of every answer in a packed batch."""

    def __init__(
        self, config: Qwen2_5_VLConfig, rules: PixelRules, *, head: str = "linear+bias"
    ) -> None:
        super().__init__()
        self.backbone = Qwen2_5_VLModel(config)
        self.head = heads.make(head, hidden_size(config))
        self.rules = rules
        self.attention = "sdpa"
        self.backbone.visual.patch_embed = PatchEmbed(self.backbone.visual.patch_embed.proj)
        for module in (self.backbone, self.backbone.language_model, self.backbone.visual):
            module.config._attn_implementation = attention.NAME

    @property
    def image_pad_id(self) -> int:
        return int(self.backbone.config.image_token_id)

    @property
    def head_kind(self) -> heads.HeadKind:
        return heads.kind_of([f"head.{name}" for name, _ in self.head.named_parameters()])

    @property
    def device(self) -> torch.device:
        return next(self.head.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.backbone.language_model.embed_tokens.weight.dtype
        return dtype

    def forward(
        self, batch: PackedBatch, features_FD: Tensor | None = None, past: Past | None = None
    ) -> Tensor:
        """Scores of shape (N,) in the head's precision, groups in order, answers in order."""
        return self.score(self.hidden(batch, features_FD, past), batch)

    def hidden(
        self, batch: PackedBatch, features_FD: Tensor | None = None, past: Past | None = None
    ) -> Tensor:
        """The last layer's output for every token of the row, (T, D).

        `features_FD` are the distinct pictures' features when the caller already has them; `past`
        brings the keys and values of the batch's cached rows.
        """
        embeds_TD = self.backbone.language_model.embed_tokens(batch.input_ids_T)
        if batch.patches is not None:
            if features_FD is None:
                features_FD = self.image_features(batch.patches, batch.grid_thw)
            rows_MD = features_FD[batch.feature_index_M].to(embeds_TD.dtype)
            embeds_TD = embeds_TD.index_copy(0, batch.image_index_M, rows_MD)
        return self._decode(embeds_TD, batch, past)

    def score(self, hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
        """The head on each answer's last token, (N,)."""
        scored_ND = hidden_TD[batch.score_index_N].to(next(self.head.parameters()).dtype)
        scores_N: Tensor = self.head(scored_ND).squeeze(-1)
        assert scores_N.shape == (batch.num_scored,)
        return scores_N

    def image_features(self, patches: Tensor, grid_thw: Tensor | None) -> Tensor:
        """Picture tokens of shape (F, hidden), the distinct pictures in order of `grid_thw`."""
        backend = attention.BACKENDS[self.attention]
        pixels = self.normalize(patches)
        output = self.backbone.visual(pixels, grid_thw=grid_thw, backend=backend)
        features: Tensor = output.pooler_output
        return features

    def normalize(self, patches: Tensor) -> Tensor:
        precise = torch.promote_types(self.dtype, torch.float32)
        mean, std = (
            torch.tensor(values, dtype=precise, device=patches.device)[:, None] * 255
            for values in (self.rules.image_mean, self.rules.image_std)
        )
        by_colour = patches.view(len(patches), 3, -1).to(precise)
        return ((by_colour - mean) / std).flatten(1).to(self.dtype)

    def _decode(self, embeds_TD: Tensor, batch: PackedBatch, past: Past | None) -> Tensor:
        assert past or not batch.cached, "cached rows need their keys and values"
        backend = attention.BACKENDS[self.attention]
        output = self.backbone.language_model(
            inputs_embeds=embeds_TD.unsqueeze(0),
            # We hand over the layout ourselves: no mask may be built over the packed row.
            attention_mask={"full_attention": None},
            position_ids=batch.positions_3T.unsqueeze(1),
            use_cache=False,
            backend=backend,
            plan=backend.plan(
                (*batch.shared, *batch.spans),
                batch.cached_rows,
                embeds_TD.device,
                embeds_TD.dtype,
            ),
            past=past,
        )
        hidden_1TD: Tensor = output.last_hidden_state
        return hidden_1TD.squeeze(0)


class PatchEmbed(nn.Module):
    """The stock convolution as the matrix product it is: every patch is one step of it."""

    def __init__(self, proj: nn.Conv3d) -> None:
        super().__init__()
        self.proj = proj  # the released key

    def forward(self, patches: Tensor) -> Tensor:
        """(patches, 1176) -> (patches, width)."""
        weight = self.proj.weight
        return linear(patches.to(weight.dtype), weight.flatten(1))


def hidden_size(config: Qwen2_5_VLConfig) -> int:
    """Width D of the decoder, and so of the reward head's input."""
    return int(config.get_text_config().hidden_size)
