"""Packed attention by the variable-length flash kernel of torch: one call for a whole batch.

Queries stay as they are; keys and values are gathered to `[prefix, prefix + answer 1, ...]`, so
that each answer meets its prompt. The causal mask is aligned to the end of the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from rm_core.layout import GroupSpan

CAUSAL, FULL = (-1, 0), (-1, -1)
# torch 2.11 has no such argument; there every query head brings its own keys.
KNOWS_GROUPED_QUERIES = "enable_gqa" in signature(varlen_attn).parameters


@dataclass(frozen=True, slots=True)
class VarlenPlan:
    """Segment bounds of queries and keys, and which row each key is read from."""

    cu_q: Tensor  # int32
    cu_k: Tensor  # int32
    max_q: int
    max_k: int
    key_rows: Tensor | None
    window: tuple[int, int]

    def attend(self, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, scale: float) -> Tensor:
        if self.key_rows is not None:
            k_TKD, v_TKD = k_TKD[self.key_rows], v_TKD[self.key_rows]
        out = _kernel(q_THD, k_TKD, v_TKD, self, scale)
        assert isinstance(out, Tensor)
        return out


def _kernel(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, plan: VarlenPlan, scale: float) -> Any:
    options: dict[str, Any] = {"scale": scale, "window_size": plan.window}
    if (sharing := q_THD.shape[1] // k_TKD.shape[1]) > 1:
        if KNOWS_GROUPED_QUERIES:
            options["enable_gqa"] = True
        else:
            k_TKD, v_TKD = (x.repeat_interleave(sharing, 1) for x in (k_TKD, v_TKD))
    q, k, v = (x.contiguous() for x in (q_THD, k_TKD, v_TKD))
    return varlen_attn(q, k, v, plan.cu_q, plan.cu_k, plan.max_q, plan.max_k, **options)


def plan(
    spans: Sequence[GroupSpan], cached: int, device: torch.device, _dtype: torch.dtype
) -> VarlenPlan:
    """Lay out the decoder's attention for these groups; cached rows are the first keys."""
    q_lengths: list[int] = []
    key_rows: list[Tensor] = []
    for span in spans:
        first = span.start + cached
        prefix = _rows([*span.context, range(first, first + span.prefix)])
        if span.prefix:
            q_lengths.append(span.prefix)
            key_rows.append(prefix)
        for start, length in zip(span.answer_starts(), span.answers, strict=True):
            q_lengths.append(length)
            key_rows.append(torch.cat([prefix, torch.arange(start, start + length) + cached]))
    k_lengths = [len(rows) for rows in key_rows]
    return VarlenPlan(
        cu_q=_bounds(q_lengths).to(device),
        cu_k=_bounds(k_lengths).to(device),
        max_q=max(q_lengths),
        max_k=max(k_lengths),
        key_rows=torch.cat(key_rows).to(device),
        window=CAUSAL,
    )


def windows(cu_seqlens: Tensor, _dtype: torch.dtype) -> VarlenPlan:
    """Lay out the vision tower's attention: its windows are the segments."""
    longest = int(cu_seqlens.diff().max())
    cu = cu_seqlens.to(torch.int32)
    return VarlenPlan(cu, cu, longest, longest, key_rows=None, window=FULL)


def _rows(ranges: Sequence[range]) -> Tensor:
    return torch.cat([torch.arange(rows.start, rows.stop) for rows in ranges])


def _bounds(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
