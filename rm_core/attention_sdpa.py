"""Packed attention by `scaled_dot_product_attention`: equal shapes share one call.

What is causal all through (a prompt, a group with one answer) needs no mask of its own; short
groups with several answers are masked in one call; long ones are the prompt's call and their
answers' calls. No mask ever spans a long row twice.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rm_core.layout import GroupSpan

SMALL_GROUP = 256  # tokens; up to this a masked call over the whole group is cheapest
SIZE_STEP = 8  # lengths are padded to a multiple of this, so that sizes meet


@dataclass(frozen=True, slots=True)
class Block:
    """B attention problems of one shape: rows to read, rows to answer, and what to hide."""

    q_BL: Tensor
    kv_BS: Tensor
    mask: Tensor | None  # (B or 1, 1, L, S), added to the weights; None: causal or all visible
    causal: bool
    answered_R: Tensor | None  # flat positions in B*L that are real, None = all


@dataclass(frozen=True, slots=True)
class SdpaPlan:
    """Blocks in some order, and the permutation that brings their rows home (None: in order)."""

    blocks: tuple[Block, ...]
    home_T: Tensor | None

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
        whole = rows[0] if len(rows) == 1 else torch.cat(rows)
        return whole if self.home_T is None else whole[self.home_T]


@dataclass(frozen=True, slots=True)
class Chain:
    """Rows that each see all keys before them: context, then the rows themselves."""

    start: int
    length: int
    context: Tensor  # key rows


def plan(
    spans: Sequence[GroupSpan], cached: int, device: torch.device, dtype: torch.dtype
) -> SdpaPlan:
    """Lay out the decoder's attention for these groups; cached rows are the first keys."""
    forks = [span for span in spans if _is_masked(span)]
    chains = [chain for span in spans if not _is_masked(span) for chain in _chains(span, cached)]
    blocks = [*_masked_blocks(forks, cached), *_causal_blocks(chains, cached)]
    return _finish(blocks, device, dtype)


def windows(cu_seqlens: Tensor, dtype: torch.dtype) -> SdpaPlan:
    """Lay out the vision tower's attention: windows of one length are one call."""
    starts_by_length: dict[int, list[int]] = defaultdict(list)
    bounds = cu_seqlens.tolist()
    for start, end in itertools.pairwise(bounds):
        starts_by_length[end - start].append(start)
    blocks = []
    for length, starts in starts_by_length.items():
        rows_BL = torch.tensor(starts)[:, None] + torch.arange(length)
        blocks.append(Block(rows_BL, rows_BL, None, causal=False, answered_R=None))
    return _finish(blocks, cu_seqlens.device, dtype)


def _is_masked(span: GroupSpan) -> bool:
    return len(span.answers) > 1 and span.length <= SMALL_GROUP


def _chains(span: GroupSpan, cached: int) -> Iterator[Chain]:
    """The prompt and each answer; with no more than one answer both are one."""
    context = _rows(span.context)
    if len(span.answers) <= 1:
        yield Chain(span.start, span.length, context)
        return
    if span.prefix:
        yield Chain(span.start, span.prefix, context)
    first = span.start + cached
    prompt = torch.cat([context, torch.arange(first, first + span.prefix)])
    for start, length in zip(span.answer_starts(), span.answers, strict=True):
        yield Chain(start, length, prompt)


def _causal_blocks(chains: Iterable[Chain], cached: int) -> Iterator[Block]:
    """Chains of one padded length after equally many keys share a call."""
    by_size: dict[tuple[int, int], list[Chain]] = defaultdict(list)
    for chain in chains:
        by_size[_padded(chain.length), len(chain.context)].append(chain)
    for (size, context), members in by_size.items():
        size = max(chain.length for chain in members)
        rows_BL, answered_R = _real_rows([(c.start, c.length) for c in members], size)
        keys_BS = torch.cat([torch.stack([c.context for c in members]), rows_BL + cached], dim=1)
        mask = torch.ones(1, 1, size, context + size, dtype=torch.bool).tril(diagonal=context)
        yield Block(rows_BL, keys_BS, mask if context else None, not context, answered_R)


def _masked_blocks(spans: Sequence[GroupSpan], cached: int) -> Iterator[Block]:
    by_size: dict[tuple[int, int], list[GroupSpan]] = defaultdict(list)
    for span in spans:
        by_size[_padded(span.length), _padded(span.context_length)].append(span)
    for (size, context_size), members in by_size.items():
        rows_BL, answered_R = _real_rows([(s.start, s.length) for s in members], size)
        context_BC = torch.stack([_rows(span.context, context_size) for span in members])
        masks = [_group_mask(span, size, context_size) for span in members]
        keys_BS = torch.cat([context_BC, rows_BL + cached], dim=1)
        yield Block(rows_BL, keys_BS, torch.stack(masks)[:, None], False, answered_R)


def _padded(length: int) -> int:
    return -(-length // SIZE_STEP) * SIZE_STEP


def _real_rows(stretches: Sequence[tuple[int, int]], size: int) -> tuple[Tensor, Tensor | None]:
    """(start, length) stretches as rows (B, size), and which of them are no padding."""
    starts_B1, lengths_B1 = torch.tensor(stretches)[:, :, None].unbind(1)
    step_L = torch.arange(size)
    real_BL = step_L < lengths_B1
    rows_BL = torch.where(real_BL, starts_B1 + step_L, starts_B1)
    return rows_BL, None if real_BL.all() else real_BL.flatten().nonzero().squeeze(1)


def _rows(ranges: Sequence[range], size: int = 0) -> Tensor:
    """All rows of the ranges, followed by as many others as `size` asks for."""
    rows = [torch.arange(rows.start, rows.stop) for rows in ranges]
    missing = size - sum(map(len, ranges))
    return torch.cat([*rows, torch.zeros(max(0, missing), dtype=torch.long)])


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


def _finish(blocks: Sequence[Block], device: torch.device, dtype: torch.dtype) -> SdpaPlan:
    order = torch.cat(
        [
            b.q_BL.flatten() if b.answered_R is None else b.q_BL.flatten()[b.answered_R]
            for b in blocks
        ]
    )
    in_order = torch.equal(order, torch.arange(len(order)))
    placed = tuple(_to(block, device, dtype) for block in blocks)
    return SdpaPlan(placed, None if in_order else order.argsort().to(device))


def _to(block: Block, device: torch.device, dtype: torch.dtype) -> Block:
    """On the device; masks as numbers, which every layer would else make of them again."""
    mask = block.mask
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, float("-inf"))
        mask = hidden.to(device)
    answered = None if block.answered_R is None else block.answered_R.to(device)
    return Block(block.q_BL.to(device), block.kv_BS.to(device), mask, block.causal, answered)
