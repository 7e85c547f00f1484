"""`vlrm bench engine`: how fast forward passes are on this device, without a checkpoint."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version


def main(argv: Sequence[str]) -> int:
    """Print the table; progress goes to standard error."""
    given = parser().parse_args(argv)
    # torch comes late: --help and wrong flags need not wait for it.
    from rm_core.enginebench import Plan, run
    from rm_core.scorer import choose_device, choose_dtype

    device = choose_device(given.device)
    plan = Plan(
        geometry=given.geometry,
        device=device,
        dtype=choose_dtype(given.dtype, device),
        pack_tokens=given.pack_tokens,
        seconds=given.seconds,
        attention=given.attention,
        threads=given.threads,
    )
    table = run(plan, lambda line: print(line, file=sys.stderr, flush=True))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    print(f"{given.geometry}, {plan.dtype}, {device}, {versions}\n\n{table}")
    return 0


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="vlrm bench", description=__doc__, allow_abbrev=False)
    words.add_argument("what", choices=["engine"])
    words.add_argument("--geometry", default="qwen2.5-vl-7b", help="or qwen2.5-vl-3b, small")
    words.add_argument(
        "--random-weights",
        action="store_true",
        required=True,
        help="said aloud: these scores mean nothing",
    )
    words.add_argument("--device", default="auto")
    words.add_argument("--dtype", default="auto")
    words.add_argument("--attention", default="auto", help="back-end of rm_core")
    words.add_argument("--pack-tokens", type=int, default=16_384, help="about so many in a pass")
    words.add_argument("--seconds", type=float, default=10.0, help="measured for each figure")
    words.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0: its choice")
    return words
