"""`vlrm`: serve, score, compare and rank here; other packages add commands as entry points."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points

from rm_core.errors import RewardError
from service import benchcommand, commands, exportcommand
from service.settings import PREFIX, Settings, SettingsError, load_settings

# Training may not be imported from here, so `vlrm train` and its neighbours register themselves.
COMMAND_GROUP = "vlrm.commands"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of one command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = available()
    if not arguments or arguments[0] not in known:
        return _usage(arguments[:1], sorted(known))
    try:
        return known[arguments[0]](arguments[1:])
    except (RewardError, SettingsError, MissingExtra, OSError, UnicodeError) as error:
        print(f"vlrm {arguments[0]}: {error}", file=sys.stderr)
        return 1


def available() -> dict[str, Callable[[Sequence[str]], int]]:
    """Our commands, and those other installed packages offer."""
    others = {point.name: _lazily(point) for point in entry_points(group=COMMAND_GROUP)}
    ours = {"serve": serve, "score": score, "compare": compare, "rank": rank}
    return {**others, **ours, "bench": benchcommand.main, "export": exportcommand.main}


def _lazily(point: EntryPoint) -> Callable[[Sequence[str]], int]:
    def run(argv: Sequence[str]) -> int:
        try:
            command = point.load()
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"needs the package {error.name}: pip install 'vlrm[train]'"
            ) from error
        return int(command(argv) or 0)

    return run


class MissingExtra(Exception):
    """The command is there, the packages it stands on are not."""


def serve(argv: Sequence[str]) -> int:
    """Settings first: a wrong one is refused before anything slow is imported."""
    flags = {
        name: value
        for name, value in vars(serve_parser().parse_args(argv)).items()
        if value is not None
    }
    settings = load_settings(flags, os.environ)
    from service.serve import serve as run  # imports the whole web stack

    return run(settings)


def serve_parser() -> argparse.ArgumentParser:
    """One flag per setting; values are judged by Settings, not here."""
    parser = argparse.ArgumentParser(
        prog="vlrm serve",
        description=f"Serve a reward model. Every flag is also a {PREFIX}<NAME> variable.",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML or JSON file of settings")
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(flag, nargs="?", const="true", help=field.description)
        else:
            parser.add_argument(flag, metavar="VALUE", help=field.description)
    return parser


def score(argv: Sequence[str]) -> int:
    return commands.main("score", argv)


def compare(argv: Sequence[str]) -> int:
    return commands.main("compare", argv)


def rank(argv: Sequence[str]) -> int:
    return commands.main("rank", argv)


def _usage(unknown: Sequence[str], names: Sequence[str]) -> int:
    asked_for_help = list(unknown) in (["-h"], ["--help"])
    wrong = f"unknown command {unknown[0]!r}. " if unknown and not asked_for_help else ""
    text = f"{wrong}usage: vlrm {{{','.join(names)}}} ...   (vlrm <command> --help)"
    print(text, file=sys.stdout if asked_for_help else sys.stderr)
    return 0 if asked_for_help else 2


if __name__ == "__main__":
    sys.exit(main())
