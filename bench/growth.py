"""How a forward pass grows: with its tokens, and with the answers to one prompt.

`python -m bench.growth --plot docs/growth.png` on the embedded shape of `vlrm bench engine
--geometry small`, random weights; the plot needs matplotlib.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rm_core.enginebench.inputs import Shape, group
from rm_core.enginebench.run import Plan, median_seconds, random_model
from rm_core.model import RewardModel
from rm_core.packing import pack

TOKENS = (100, 200, 400, 800, 1600, 3200)
ANSWERS = (1, 2, 4, 8, 16, 32)
PROMPT, ANSWER = 400, 60  # tokens, in the second figure


def by_tokens(model: RewardModel, plan: Plan) -> list[float]:
    """Seconds for rows of 100-token groups, so that attention stays what it is in practice."""
    return [seconds(model, plan, [Shape(0, 60, 40)] * (count // 100)) for count in TOKENS]


def by_answers(model: RewardModel, plan: Plan) -> tuple[list[float], list[float]]:
    """Seconds for one group of n answers, and for n groups of one."""
    packed = [seconds(model, plan, [Shape(0, PROMPT, ANSWER, n)]) for n in ANSWERS]
    apart = [seconds(model, plan, [Shape(0, PROMPT, ANSWER)] * n) for n in ANSWERS]
    return packed, apart


def seconds(model: RewardModel, plan: Plan, shapes: Sequence[Shape]) -> float:
    rng = np.random.default_rng(0)
    made = [group(shape, model.image_pad_id, rng) for shape in shapes]
    batch = pack(made, model.image_pad_id, model.rules.merge_size)
    with torch.inference_mode():
        return median_seconds(lambda: model(batch), plan)


def plot(path: Path, rows: list[float], packed: list[float], apart: list[float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(TOKENS, rows, marker="o")
    left.set(xlabel="tokens in the row", ylabel="seconds", title="groups of 100 tokens")
    right.plot(ANSWERS, apart, marker="o", label="each with its own prompt")
    right.plot(ANSWERS, packed, marker="o", label="one prompt, computed once")
    title = f"a prompt of {PROMPT} tokens, answers of {ANSWER}"
    right.set(xlabel="answers", ylabel="seconds", title=title)
    right.legend()
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    words.add_argument("--seconds", type=float, default=3.0, help="measured for each point")
    words.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0: its choice")
    words.add_argument("--plot", type=Path, help="also draw the figures here")
    given = words.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    plan = Plan("small", torch.device("cpu"), torch.float32, 0, given.seconds)
    model = random_model(plan)
    rows, (packed, apart) = by_tokens(model, plan), by_answers(model, plan)
    print("| tokens | seconds | microseconds a token |\n| --- | --- | --- |")
    for count, took in zip(TOKENS, rows, strict=True):
        print(f"| {count} | {took:.3f} | {took / count * 1e6:.0f} |")
    print("\n| answers | one prompt | own prompts | ratio |\n| --- | --- | --- | --- |")
    for count, once, each in zip(ANSWERS, packed, apart, strict=True):
        print(f"| {count} | {once:.3f} s | {each:.3f} s | {each / once:.2f} |")
    if given.plot:
        plot(given.plot, rows, packed, apart)


if __name__ == "__main__":
    main()
