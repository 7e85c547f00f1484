"""Spec: the base of every section of a recipe."""

import difflib
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


class Spec(BaseModel):
    """Frozen, and a misspelt key is an error that names its neighbour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Keys that came after the first release. While they hold their default they are not written,
    # so a recipe that does not use them keeps its digest, and its runs and lineage their name.
    added_later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_keys(cls, given: Any) -> Any:
        if isinstance(given, dict) and (unknown := [k for k in given if k not in cls.model_fields]):
            raise ValueError("; ".join(_hint(str(key), list(cls.model_fields)) for key in unknown))
        return given

    @model_serializer(mode="wrap")
    def write(self, write_all: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write_all(self)
        return {key: value for key, value in written.items() if not self._left_out(key)}

    def _left_out(self, key: str) -> bool:
        default = type(self).model_fields[key].default
        return key in self.added_later and getattr(self, key) == default


def nearest(word: str, known: list[str]) -> str:
    """'did you mean …?', or all that is known."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _hint(key: str, known: list[str]) -> str:
    near = nearest(key, known)
    return f"unknown key {key!r}" + (", " if near.startswith("did") else "; ") + near
