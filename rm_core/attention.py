"""Packed attention behind one interface: what may look at what, and who computes it.

Each answer's queries see the prompt and, causally, the answer itself. A back-end turns the spans
of a batch into a plan once, and every layer reuses it. The stock modules of transformers call us
through their attention interface, so no model code is patched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rm_core import attention_sdpa, attention_varlen
from rm_core.errors import UnknownName
from rm_core.layout import GroupSpan
from rm_core.prefixes import Past

# The stock vision tower hands over all windows in one call only to a name with "flash" in it;
# to any other it calls once per window, which is what makes its CPU path slow.
NAME = "vlrm_packed_flash"


class Plan(Protocol):
    """A batch's attention layout, ready for one back-end."""

    def attend(self, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, scale: float) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """`plan` lays out the decoder's spans after so many cached rows, `windows` the tower's."""

    plan: Callable[[Sequence[GroupSpan], int, torch.device, torch.dtype], Plan]
    windows: Callable[[Tensor, torch.dtype], Plan]
    devices: tuple[str, ...]
    only_half: bool = False  # knows no other number types than bfloat16 and float16


@dataclass(frozen=True, slots=True)
class DensePlan:
    """The reference: one full mask over the whole row. Quadratic; for tests."""

    mask_TS: Tensor

    def attend(self, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, scale: float) -> Tensor:
        heads = q_THD.shape[1] // k_TKD.shape[1]
        q, k, v = (
            x.transpose(0, 1)
            for x in (q_THD, k_TKD.repeat_interleave(heads, 1), v_TKD.repeat_interleave(heads, 1))
        )
        weights = (q @ k.transpose(1, 2) * scale).masked_fill(~self.mask_TS, float("-inf"))
        return (weights.softmax(-1) @ v).transpose(0, 1)


def dense_plan(
    spans: Sequence[GroupSpan], cached: int, device: torch.device, _dtype: torch.dtype
) -> DensePlan:
    size = spans[-1].start + spans[-1].length
    mask_TS = torch.zeros(size, cached + size, dtype=torch.bool)
    row_TT = mask_TS[:, cached:]
    for span in spans:
        whole, prefix = (slice(span.start, span.start + n) for n in (span.length, span.prefix))
        for context in span.context:
            mask_TS[whole, context.start : context.stop] = True
        row_TT[prefix, prefix] = _causal(span.prefix)
        for start, length in zip(span.answer_starts(), span.answers, strict=True):
            answer = slice(start, start + length)
            row_TT[answer, prefix] = True
            row_TT[answer, answer] = _causal(length)
    return DensePlan(mask_TS.to(device))


def dense_windows(cu_seqlens: Tensor, _dtype: torch.dtype) -> DensePlan:
    lengths = cu_seqlens.diff()
    block = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return DensePlan(block[:, None] == block[None, :])


BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(attention_sdpa.plan, attention_sdpa.windows, ("cpu", "cuda")),
    "varlen": Backend(attention_varlen.plan, attention_varlen.windows, ("cuda",), only_half=True),
    "reference": Backend(dense_plan, dense_windows, ("cpu", "cuda")),
}


def choose(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """`auto` -> the fastest back-end for this device and dtype; any other name must exist here."""
    half = dtype in (torch.bfloat16, torch.float16)
    if name == "auto":
        return "varlen" if device.type == "cuda" and half else "sdpa"
    fitting = [
        key
        for key, backend in BACKENDS.items()
        if device.type in backend.devices and (half or not backend.only_half)
    ]
    if name not in fitting:
        kind = str(dtype).removeprefix("torch.")
        raise UnknownName(f"attention back-end for {device.type}, {kind}", name, ["auto", *fitting])
    return name


def packed_attention(
    module: Any,  # the stock attention module; the decoder's knows its `layer_idx`
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    backend: Backend,
    plan: Plan | None = None,
    past: Past | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, heads, T, head size) -> (1, T, heads, size)."""
    del attention_mask
    if plan is None:
        assert cu_seq_lens_q is not None, "neither a decoder plan nor vision windows were given"
        plan = backend.windows(cu_seq_lens_q, query.dtype)
    q_THD, k_TKD, v_TKD = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    if past is not None:
        k_TKD, v_TKD = past.extend(module.layer_idx, k_TKD, v_TKD)
    return plan.attend(q_THD, k_TKD, v_TKD, scaling).unsqueeze(0), None


def _causal(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)
