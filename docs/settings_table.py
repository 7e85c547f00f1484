"""Writes the table of settings into docs/configuration.md: `python docs/settings_table.py`."""

import re
from pathlib import Path

from service.settings import Settings

PAGE = Path(__file__).parent / "configuration.md"
BETWEEN = re.compile(r"(<!-- settings -->\n).*?(\n<!-- end -->)", re.S)


def table() -> str:
    lines = ["| variable | flag | default | what |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        default = "" if field.default in (None, ()) else f"`{field.default}`"
        lines.append(f"| `VLRM_{name.upper()}` | `{flag}` | {default} | {field.description} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with a current table."""
    return BETWEEN.sub(lambda found: f"{found[1]}{table()}{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
