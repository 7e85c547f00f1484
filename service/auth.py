"""API keys: only their digests are on disk, and they are compared in constant time."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.settings import Settings, SettingsError

_LINE = re.compile(r"(?P<name>[\w.-]{1,64})\s+(?P<digest>[0-9a-f]{64})(?P<admin>\s+admin)?")


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    digest: str
    admin: bool


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys this server knows; an empty set means that nobody needs one."""

    keys: tuple[Key, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls.read(settings.api_keys_file) if settings.api_keys_file else cls()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Lines of `name sha256-of-key [admin]`; `#` begins a comment."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SettingsError(f"api_keys_file {path}: {error.strerror}") from error
        rows = [(n, text) for n, text in enumerate(map(str.strip, lines), 1) if text]
        keys = tuple(_key(path, n, text) for n, text in rows if not text.startswith("#"))
        if not keys:
            raise SettingsError(f"api_keys_file {path} holds no key, so nobody could call")
        return cls(keys)

    def find(self, authorization: str | None) -> Key | None:
        """The key behind an `Authorization: Bearer ...` header."""
        scheme, _, secret = (authorization or "").partition(" ")
        digest = hashlib.sha256(secret.strip().encode()).hexdigest()
        # Every key is compared, so that time tells nothing about which one came close.
        found = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found and scheme.lower() == "bearer" else None


def _key(path: Path, number: int, text: str) -> Key:
    if not (match := _LINE.fullmatch(text)):
        raise SettingsError(
            f"api_keys_file {path} line {number}: expected `name sha256-of-key [admin]`; make a "
            'digest with: printf %s "$KEY" | sha256sum'
        )
    return Key(match["name"], match["digest"], match["admin"] is not None)
