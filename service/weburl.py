"""The only reading of a URL, stricter than any browser's, so that no two readings can disagree."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self
from urllib.parse import quote

import idna

MAX_URL_CHARS = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}

_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^/?#@:\[\]*]+)"
_PORT = r"(?::([0-9]{1,5}))?"
_URL = re.compile(rf"([Hh][Tt][Tt][Pp][Ss]?)://{_HOST}{_PORT}(/[^?#]*)?(\?[^#]*)?(?:#.*)?")
_ENTRY = re.compile(rf"(\*\.)?{_HOST}{_PORT}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Resolvers read such names as IPv4: 2130706433, 0x7f000001, 127.1, 0177.0.0.1.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PUNCTUATION = "!\"$%&'()*+,-./:;<=>?@[]^_`{|}~"


class Refused(Exception):
    """Nothing may be fetched from there; the message says which rule, never an address."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to ask, taken apart once; nothing parses the URL again after this."""

    scheme: str
    host: str  # lower-case ASCII name, or an IP address without brackets
    port: int
    path: str  # with the query, ASCII

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def literal(self) -> IPv4Address | IPv6Address | None:
        """The address, when the URL names one instead of a host."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """`host` or `*.suffix` (not the suffix itself), either with `:port`."""

    name: str
    any_below: bool
    port: int | None

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Raises ValueError with the entry and the forms that are understood."""
        found = _ENTRY.fullmatch(entry)
        try:
            if found:
                port = port_number(found[3]) if found[3] else None
                return cls(host_name(found[2]), bool(found[1]), port)
        except ValueError:
            pass
        raise ValueError(f"{entry!r} is not one of host, *.suffix, host:port and *.suffix:port")

    def admits(self, target: Target) -> bool:
        port = DEFAULT_PORTS[target.scheme] if self.port is None else self.port
        named = (
            target.host.endswith(f".{self.name}") if self.any_below else target.host == self.name
        )
        return named and target.port == port


def parse(url: str) -> Target:
    """Raises Refused for everything that is not plainly an http(s) URL."""
    found = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    # isprintable is false for control characters, every space but " ", and lone surrogates.
    if not found or not url.isprintable() or " " in url or "\\" in url:
        raise Refused(
            "a picture's URL is http:// or https://, a host name and a path, at most "
            f"{MAX_URL_CHARS} characters, without spaces, backslashes or a user name"
        )
    scheme = found[1].lower()
    try:
        host = host_name(found[2])
        port = port_number(found[3]) if found[3] else DEFAULT_PORTS[scheme]
    except ValueError:
        raise Refused("the URL's host or port is not written as usual") from None
    return Target(scheme, host, port, quote((found[4] or "/") + (found[5] or ""), _PUNCTUATION))


def host_name(text: str) -> str:
    """The one spelling of a host: IDNA, lower case, no final dot, IPv4 as four numbers.

    Raises ValueError for what is neither a host name nor an address in its usual spelling.
    """
    if text.startswith("["):
        return str(IPv6Address(text[1:-1]))
    # IDNA also maps lookalikes: full-width and circled digits become digits, 。 becomes a dot.
    name = text if text.isascii() else idna.encode(text, uts46=True).decode()
    name = name.lower().removesuffix(".")
    if _NUMERIC.fullmatch(name):
        return str(IPv4Address(name))
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError("not a host name")
    return name


def port_number(text: str) -> int:
    if not 1 <= (port := int(text)) <= 65_535:
        raise ValueError("not a port")
    return port
