"""The README's example: its command, its answer, and both run again.

`python -m tests.e2e.readme` prints the answer to paste after the model has changed.
"""

import json
import re
import subprocess
from typing import Any

from bench.server_process import ROOT, ServerProcess

README = ROOT / "README.md"


def block(name: str) -> str:
    """The fenced block that follows the comment `<!-- example: name -->`."""
    found = re.search(rf"<!-- example: {name} -->\n```\w*\n(.*?)\n```", README.read_text(), re.S)
    assert found, f"README has no example named {name}"
    return found[1]


def run_command(url: str) -> dict[str, Any]:
    """The command as a reader runs it, in the project's root, against `url`."""
    command = block("command").replace("localhost:8000", url.removeprefix("http://"))
    answer = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, capture_output=True, check=True
    )
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def main() -> None:
    with ServerProcess("--threads", "1") as server:
        answer = run_command(server.url)
    answer["id"] = "score-…"
    rows = ",\n    ".join(json.dumps(row) for row in answer.pop("scores"))
    lines = [f'  "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in answer.items()]
    lines.insert(2, f'  "scores": [\n    {rows}\n  ]')
    text = "{\n" + ",\n".join(lines) + "\n}"
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
