"""Packed attention by `scaled_dot_product_attention`: equal shapes share one call.

Small groups are padded to a common size and masked; a long prompt is one causal call and its
answers are calls of their own, so no mask ever spans a long row twice.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rm_core.layout import GroupSpan

SMALL_GROUP = 256  # tokens; below this a masked call over the whole group is cheapest
SIZE_STEP = 8  # small groups are padded to a multiple of this, so that sizes meet


@dataclass(frozen=True, slots=True)
class Block:
    """B attention problems of one shape: rows to read, rows to answer, and what to hide."""

    q_BL: Tensor
    kv_BS: Tensor
    mask: Tensor | None  # (B or 1, 1, L, S), True = visible
    causal: bool
    answered_R: Tensor | None  # flat positions in B*L that are real, None = all


@dataclass(frozen=True, slots=True)
class SdpaPlan:
    """Blocks in some order, and the permutation that brings their rows home."""

    blocks: tuple[Block, ...]
    home_T: Tensor

    def attend(self, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, scale: float) -> Tensor:
        gqa = q_THD.shape[1] != k_TKD.shape[1]
        rows = []
        for block in self.blocks:
            out_BHLD = scaled_dot_product_attention(
                q_THD[block.q_BL].transpose(1, 2),
                k_TKD[block.kv_BS].transpose(1, 2),
                v_TKD[block.kv_BS].transpose(1, 2),
                attn_mask=block.mask,
                is_causal=block.causal,
                scale=scale,
                enable_gqa=gqa,
            )
            flat = out_BHLD.transpose(1, 2).flatten(0, 1)
            rows.append(flat if block.answered_R is None else flat[block.answered_R])
        return torch.cat(rows)[self.home_T]


def plan(spans: Sequence[GroupSpan], cached: int, device: torch.device) -> SdpaPlan:
    """Lay out the decoder's attention for these groups; cached rows are the first keys."""
    small = [span for span in spans if span.length <= SMALL_GROUP]
    large = [span for span in spans if span.length > SMALL_GROUP]
    return _finish([*_small_blocks(small, cached), *_large_blocks(large, cached)], device)


def windows(cu_seqlens: Tensor) -> SdpaPlan:
    """Lay out the vision tower's attention: windows of one length are one call."""
    starts_by_length: dict[int, list[int]] = defaultdict(list)
    bounds = cu_seqlens.tolist()
    for start, end in itertools.pairwise(bounds):
        starts_by_length[end - start].append(start)
    blocks = []
    for length, starts in starts_by_length.items():
        rows_BL = torch.tensor(starts)[:, None] + torch.arange(length)
        blocks.append(Block(rows_BL, rows_BL, None, causal=False, answered_R=None))
    return _finish(blocks, cu_seqlens.device)


def _small_blocks(spans: Sequence[GroupSpan], cached: int) -> Iterator[Block]:
    by_size: dict[tuple[int, int], list[GroupSpan]] = defaultdict(list)
    for span in spans:
        by_size[_padded(span.length), _padded(span.context_length)].append(span)
    for (size, context_size), members in by_size.items():
        starts_B1 = torch.tensor([[span.start] for span in members])
        lengths_B1 = torch.tensor([[span.length] for span in members])
        step_L = torch.arange(size)
        real_BL = step_L < lengths_B1
        rows_BL = torch.where(real_BL, starts_B1 + step_L, starts_B1)
        context_BC = torch.stack([_context(span, context_size) for span in members])
        masks = [_group_mask(span, size, context_size) for span in members]
        yield Block(
            q_BL=rows_BL,
            kv_BS=torch.cat([context_BC, rows_BL + cached], dim=1),
            mask=torch.stack(masks)[:, None],
            causal=False,
            answered_R=real_BL.flatten().nonzero().squeeze(1),
        )


def _padded(length: int) -> int:
    return -(-length // SIZE_STEP) * SIZE_STEP


def _context(span: GroupSpan, size: int = 0) -> Tensor:
    """The context's key rows, followed by as many others as `size` asks for."""
    rows = [row for rows in span.context for row in rows]
    return torch.tensor(rows + [0] * (size - len(rows)), dtype=torch.long)


def _group_mask(span: GroupSpan, size: int, context_size: int) -> Tensor:
    """(size, context + size): the context; same branch or the prompt, and never ahead.

    Padding rows see themselves.
    """
    part = torch.repeat_interleave(
        torch.arange(len(span.answers) + 2),
        torch.tensor([span.prefix, *span.answers, size - span.length]),
    )
    visible = (part[:, None] == part[None, :]) | (part == 0)[None, :]
    context = torch.arange(context_size) < span.context_length
    return torch.cat([context.expand(size, -1), visible.tril()], dim=1)


def _large_blocks(spans: Sequence[GroupSpan], cached: int) -> Iterator[Block]:
    for span in spans:
        own = torch.arange(span.start, span.start + span.prefix)
        prefix = torch.cat([_context(span), own + cached])
        if span.prefix:
            yield _causal_block(own[None], prefix[None])
        by_length: dict[int, list[int]] = defaultdict(list)
        for start, length in zip(span.answer_starts(), span.answers, strict=True):
            by_length[length].append(start)
        for length, starts in by_length.items():
            rows_BL = torch.tensor(starts)[:, None] + torch.arange(length)
            keys_BS = torch.cat([prefix.expand(len(starts), -1), rows_BL + cached], dim=1)
            yield _causal_block(rows_BL, keys_BS)


def _causal_block(rows_BL: Tensor, keys_BS: Tensor) -> Block:
    """Rows that see all keys up to their own; the last key is the last row's."""
    length, size = rows_BL.shape[1], keys_BS.shape[1]
    if length == size:
        return Block(rows_BL, keys_BS, None, causal=True, answered_R=None)
    mask = torch.ones(length, size, dtype=torch.bool).tril(diagonal=size - length)
    return Block(rows_BL, keys_BS, mask[None, None], causal=False, answered_R=None)


def _finish(blocks: Sequence[Block], device: torch.device) -> SdpaPlan:
    order = torch.cat(
        [
            b.q_BL.flatten() if b.answered_R is None else b.q_BL.flatten()[b.answered_R]
            for b in blocks
        ]
    )
    return SdpaPlan(tuple(_to(block, device) for block in blocks), order.argsort().to(device))


def _to(block: Block, device: torch.device) -> Block:
    def move(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    return Block(
        block.q_BL.to(device),
        block.kv_BS.to(device),
        move(block.mask),
        block.causal,
        move(block.answered_R),
    )
