"""The row every source yields and every stage reads."""

from dataclasses import dataclass

from rm_core.types import Conversation


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt, the answer to prefer, and the answers to prefer it to."""

    id: str
    conversation: Conversation
    chosen: str
    rejected: tuple[str, ...]
    task: str
    group: str
    source: str
