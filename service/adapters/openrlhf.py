"""OpenRLHF: `--reward.remote_url <the path of this file>`; pictures come from `--data.label_key`.

The label column holds {"images": [...]}, as an object or JSON text; here a picture may also be the
path of a local file. OpenRLHF logs an exception and goes on without that sample's reward: watch
its log.
"""

import json
from collections.abc import Sequence
from typing import Any

from service.adapters._http import Connection, blocking
from service.adapters._messages import picture_url


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]
) -> dict[str, Any]:
    """`rewards`, `scores` and `extra_logs` of whole conversations, from POST /get_reward."""
    body = {
        "query": list(queries),
        "prompts": list(prompts),
        "labels": [_with_pictures(label) for label in labels],
    }
    found: dict[str, Any] = blocking(_post(body))
    return found


async def _post(body: dict[str, Any]) -> Any:
    async with Connection() as connection:
        return await connection.post("/get_reward", body)


def _with_pictures(label: Any) -> Any:
    if isinstance(label, str) and label.lstrip().startswith("{"):
        try:
            label = json.loads(label)
        except ValueError:
            return ""  # an answer in braces; the server reads nothing but pictures from a label
    if not isinstance(label, dict) or label.get("images") is None:
        return ""
    return {"images": [picture_url(picture) for picture in label["images"]]}
