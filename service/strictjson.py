"""JSON as the contract means it: UTF-8, each key once, no NaN, nothing that cannot be encoded."""

import json
import re
from collections import Counter
from typing import Any, NoReturn

from rm_core.errors import InvalidInput
from service.errors import NotJson

MAX_KEYS = 256  # far above any schema; each unknown one would become an error of its own
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(data: bytes) -> Any:
    """The value of `data`; 400 when it is not JSON, 422 when it is JSON nobody should trust."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"the body is not valid UTF-8 at byte {error.start}; send UTF-8 without a BOM"
        ) from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise NotJson(f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except ValueError:
        raise InvalidInput("the JSON holds an integer of thousands of digits") from None
    if _SURROGATE_ESCAPE.search(data):
        _refuse_lone_surrogates(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise InvalidInput(f"an object has {len(pairs)} keys; {MAX_KEYS} are the most")
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise InvalidInput("a key appears twice in one object; send it once", field=twice[:128])
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidInput(f"{name} is not a JSON number")


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput(
            "a text holds half of a surrogate pair (\\ud800 to \\udfff alone); "
            "that is not a character"
        ) from None
