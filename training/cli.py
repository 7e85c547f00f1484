"""`vlrm train`, `plan`, `eval` and `calibrate`; also `python -m training.cli <command>`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rm_core.errors import RewardError


def train(argv: Sequence[str]) -> int:
    """Run a recipe; the same command goes on where an interrupted one stopped."""
    parser = argparse.ArgumentParser("vlrm train", description=train.__doc__)
    parser.add_argument("recipe", help="a YAML file, or the name of a packaged one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="stages.0.steps=100")
    parser.add_argument("--stage", type=int, help="only this one; 0 is the base")
    parser.add_argument("--output", type=Path, help="default: runs/<recipe name>")
    given = parser.parse_intermixed_args(argv)
    return _guarded(lambda: _train(given))


def plan(argv: Sequence[str]) -> int:
    """What a recipe will take: parameters, memory, tokens, operations, time. Nothing is trained."""
    parser = argparse.ArgumentParser("vlrm plan", description=plan.__doc__)
    parser.add_argument("recipe", help="a YAML file, or the name of a packaged one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="stages.0.steps=100")
    parser.add_argument("--gpus", default="1x80", help="cards x GiB of one; training uses one")
    parser.add_argument("--tflops", type=float, default=67.0, help="float32 peak; 67: H100 SXM")
    parser.add_argument("--mfu", type=float, default=0.4, help="the share of the peak reached")
    parser.add_argument("--rows", type=int, help="groups in an epoch, where data is not here")
    parser.add_argument("--tokens", type=float, help="of a typical group, with all its answers")
    parser.add_argument("--patches", type=float, help="of a typical group's pictures, 14x14 each")
    parser.add_argument("--json", action="store_true", help="the plan as JSON")
    given = parser.parse_intermixed_args(argv)
    return _guarded(lambda: _plan(given))


def evaluate(argv: Sequence[str]) -> int:
    """Pairwise accuracy of a checkpoint on held-out preferences."""
    parser = argparse.ArgumentParser("vlrm eval", description=evaluate.__doc__)
    parser.add_argument("--benchmark", choices=["pairs"], default="pairs")
    parser.add_argument("--data", default="builtin", help="builtin, builtin/TASK or a folder")
    parser.add_argument("--model", help="a folder or hub id; default: the embedded model")
    parser.add_argument("--rows", type=int, default=300, help="rows per built-in task")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    given = parser.parse_args(argv)
    return _guarded(lambda: _evaluate(given))


def calibrate(argv: Sequence[str]) -> int:
    """Fit a checkpoint's calibration on held-out preferences and store it in its manifest."""
    parser = argparse.ArgumentParser("vlrm calibrate", description=calibrate.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder of ours")
    parser.add_argument("--data", default="builtin", help="builtin, builtin/TASK or a folder")
    parser.add_argument("--rows", type=int, default=300, help="rows per built-in task")
    given = parser.parse_args(argv)
    return _guarded(lambda: _calibrate(given))


def _train(given: argparse.Namespace) -> int:
    from training import recipe, run
    from training.runlog import RunLog

    chosen = recipe.read(given.recipe, given.overrides)
    folder = given.output or Path("runs") / chosen.name
    with RunLog(folder) as log:
        made = run.train(chosen, folder, given.stage, log)
    print(made)
    return 0


def _plan(given: argparse.Namespace) -> int:
    from training import recipe
    from training.planner import Assumed, Card, make_plan
    from training.planner.report import as_json, as_text

    chosen = recipe.read(given.recipe, given.overrides)
    card = Card.parse(given.gpus, given.tflops, given.mfu)
    made = make_plan(chosen, card, Assumed(given.rows, given.tokens, given.patches))
    print(json.dumps(as_json(made), indent=2) if given.json else as_text(made))
    made.require_fit()
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    from rm_core.scorer import Scorer
    from training.evaluate import judge, summary, table
    from training.examine import sets

    rows = sets(given.data, given.rows, "report")
    scorer = Scorer.load(given.model)
    outcomes = {name: judge(scorer, of) for name, of in rows.items()}
    print(json.dumps(summary(outcomes), indent=2) if given.json else table(outcomes))
    return 0


def _calibrate(given: argparse.Namespace) -> int:
    from rm_core.checkpoints import manifest
    from rm_core.scorer import Scorer
    from training.calibrate import fit_on, quality
    from training.evaluate import judge
    from training.examine import calibration_rows

    rows = calibration_rows(given.data, given.rows)
    scorer = Scorer.load(given.model)
    judged = judge(scorer, rows).judged
    calibration = fit_on(judged)
    own = manifest.read(given.model)
    if own is None:
        raise RewardError(f"{given.model} has no {manifest.FILE}; only our own layout keeps one")
    replace(own, calibration=calibration).write(given.model)
    print(json.dumps({**calibration.to_json(), **asdict(quality(calibration, judged))}, indent=2))
    return 0


def _guarded(work: Callable[[], int]) -> int:
    """A refusal is one line on standard error and exit status 1, never a traceback."""
    try:
        return work()
    except RewardError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1


COMMANDS = {"train": train, "plan": plan, "eval": evaluate, "calibrate": calibrate}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(f"usage: python -m training.cli {{{','.join(COMMANDS)}}} ...", file=sys.stderr)
        return 2
    return COMMANDS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
