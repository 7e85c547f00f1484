"""The errors a caller can act on. Each message says what, where and the remedy."""

from collections.abc import Sequence


class RewardError(Exception):
    """Anything this project raises on purpose. `code` is stable and part of the wire contract."""

    code = "internal_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidInput(RewardError):
    """The conversation, an answer or a parameter cannot be scored as given."""

    code = "invalid_input"


class InvalidImage(InvalidInput):
    """The bytes are not a picture we accept, or are broken."""

    code = "invalid_image"


class ImageNotFound(InvalidInput):
    """A digest names a picture the store does not hold (any more)."""

    code = "image_not_found"


class TooLarge(RewardError):
    """Something is over a limit; nothing is ever cut to fit."""

    code = "too_large"


class TooManyTokens(TooLarge):
    """Prompt plus longest answer exceed what the model or the server takes."""

    code = "too_many_tokens"

    def __init__(self, tokens: int, limit: int, *, field: str | None = None) -> None:
        super().__init__(
            f"the conversation is {tokens} tokens long; the limit is {limit}. "
            "Nothing is truncated: shorten the text or send smaller pictures.",
            field=field,
        )
        self.tokens, self.limit = tokens, limit


class OutOfMemory(RewardError):
    """The device had no room for a forward pass; a smaller one may fit."""

    code = "out_of_memory"


class TooManyPixels(TooLarge):
    """A picture's header promises more pixels than we decode."""

    code = "too_many_pixels"


class CheckpointError(RewardError):
    """The checkpoint cannot be loaded completely, so it is not loaded at all."""

    code = "checkpoint_error"


class CheckpointMismatch(CheckpointError):
    """Tensor names or shapes differ from what the architecture expects."""

    code = "checkpoint_mismatch"

    def __init__(
        self, where: str, *, missing: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> None:
        super().__init__(
            f"{where}: {_listed('missing', missing)}{_listed('unexpected', extra)}"
            "every tensor must be accounted for; nothing was loaded."
        )
        self.missing, self.extra = list(missing), list(extra)


class UnknownName(RewardError):
    """A back-end, dtype, layout or recipe name that does not exist."""

    code = "unknown_name"

    def __init__(self, kind: str, name: str, available: Sequence[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; available: {', '.join(sorted(available))}")


def _listed(kind: str, names: Sequence[str], show: int = 5) -> str:
    if not names:
        return ""
    more = f" and {len(names) - show} more" if len(names) > show else ""
    return f"{len(names)} {kind} ({', '.join(names[:show])}{more}); "
