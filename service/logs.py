"""One line per event on standard error; never a prompt, a picture or an answer."""

import logging
import sys


def configure(level: str) -> None:
    """Everything, uvicorn included, through one handler."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    # Its debug lines carry hosts and headers, whole URLs of redirects among them.
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    # uvicorn's own narration adds nothing to our banner and request lines.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))
