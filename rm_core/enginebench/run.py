"""Build the model, run the workloads, ours beside the stock path, and make a table of it."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rm_core import attention
from rm_core.cost import CostModel
from rm_core.encode import EncodedGroup
from rm_core.enginebench.inputs import WORKLOADS, groups
from rm_core.enginebench.stock import score_one_by_one
from rm_core.geometry import config_of
from rm_core.images import PixelRules
from rm_core.model import RewardModel
from rm_core.packing import pack

MATMUL_SIDE = {"cuda": 8192, "cpu": 1536}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: a known shape on a device, batches of about so many tokens."""

    geometry: str
    device: torch.device
    dtype: torch.dtype
    pack_tokens: int
    seconds: float
    attention: str = "auto"
    threads: int = 0  # of torch on the CPU; 0: its choice
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One workload, ours and stock; `share` is of the matmul's rate."""

    name: str
    tokens_per_s: float
    pictures_per_s: float
    answers_per_s: float
    share: float
    stock_answers_per_s: float
    difference: float


def run(plan: Plan, say: Callable[[str], None]) -> str:
    """The Markdown table; `say` hears of progress."""
    if plan.threads:
        torch.set_num_threads(plan.threads)
    model = random_model(plan)
    cost, limit = CostModel.of(model), matmul_flops(plan)
    size = sum(p.numel() for p in model.parameters()) / 1e9
    say(f"{plan.geometry}: {size:.2f} G parameters, matmul {limit / 1e12:.2f} TFLOP/s")
    rows = []
    for name, shapes in WORKLOADS.items():
        made = groups(shapes, plan.pack_tokens, model.image_pad_id, plan.seed)
        rows.append(measure(name, model, made, len(shapes), plan, cost, limit))
        say(f"{name}: {rows[-1].answers_per_s:.1f} answers/s")
    return table(rows, limit, peak_bytes(plan.device))


@torch.inference_mode()
def random_model(plan: Plan) -> RewardModel:
    """Weights from a seed, made on the device; small enough that nothing overflows in float16."""
    torch.manual_seed(plan.seed)
    with torch.device("meta"):
        model = RewardModel(config_of(plan.geometry), PixelRules())
    model = model.to_empty(device=plan.device).to(plan.dtype)
    model.head.float()
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    _restore_buffers(model, plan)
    model.attention = attention.choose(plan.attention, plan.device, plan.dtype)
    return model.requires_grad_(False)


def _restore_buffers(model: RewardModel, plan: Plan) -> None:
    """Rotary frequencies are computed when a module is made, and on meta nothing is."""
    for module in model.modules():
        held = dict(module.named_buffers(recurse=False))
        if "inv_freq" in held:
            fresh: Any = type(module)(module.config)
            for name in held:
                setattr(module, name, getattr(fresh, name).to(plan.device))


def measure(
    name: str,
    model: RewardModel,
    made: Sequence[EncodedGroup],
    kinds: int,
    plan: Plan,
    cost: CostModel,
    limit: float,
) -> Row:
    """Ours packed into one row, stock one answer at a time, on the same weights."""
    batch = pack(made, model.image_pad_id, model.rules.merge_size).to(plan.device)
    answers = batch.num_scored

    @torch.inference_mode()
    def ours() -> list[float]:
        scores: list[float] = model(batch).tolist()
        return scores

    few = made[:kinds]  # one of each kind: the same mix
    took = median_seconds(ours, plan)
    stock_took = median_seconds(lambda: score_one_by_one(model, few), plan)
    expected = score_one_by_one(model, made[:1])
    difference = max(abs(a - b) for a, b in zip(ours(), expected, strict=False))
    return Row(
        name=name,
        tokens_per_s=len(batch.input_ids_T) / took,
        pictures_per_s=sum(len(group.images) for group in made) / took,
        answers_per_s=answers / took,
        share=sum(cost.flops(group) for group in made) / took / limit,
        stock_answers_per_s=sum(len(group.answer_ids) for group in few) / stock_took,
        difference=difference,
    )


def median_seconds(call: Callable[[], object], plan: Plan) -> float:
    """The median of calls for `plan.seconds`, after one that is not counted."""
    call()
    times: list[float] = []
    until = time.perf_counter() + plan.seconds
    while not times or time.perf_counter() < until:
        synchronize(plan.device)
        started = time.perf_counter()
        call()
        synchronize(plan.device)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def matmul_flops(plan: Plan) -> float:
    """What a large square product reaches here in this type: the limit to compare with."""
    side = MATMUL_SIDE[plan.device.type]
    a, b = (torch.randn(side, side, device=plan.device, dtype=plan.dtype) for _ in range(2))
    return 2.0 * side**3 / median_seconds(lambda: a @ b, plan)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(rows: Sequence[Row], limit: float, peak: int) -> str:
    head = (
        "| workload | tokens/s | pictures/s | answers/s | share of the matmul rate "
        "| stock answers/s | times stock | largest difference |"
    )
    lines = [head, "| --- |" + " --- |" * 7]
    for row in rows:
        times = row.answers_per_s / row.stock_answers_per_s
        lines.append(
            f"| {row.name} | {row.tokens_per_s:,.0f} | {row.pictures_per_s:.1f} "
            f"| {row.answers_per_s:.1f} | {row.share:.2f} | {row.stock_answers_per_s:.2f} "
            f"| {times:.1f} | {row.difference:.1e} |"
        )
    lines.append(f"\nmatmul {limit / 1e12:.2f} TFLOP/s, peak memory {peak / 2**30:.1f} GiB")
    return "\n".join(lines)
