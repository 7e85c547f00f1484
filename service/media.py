"""Where a picture's bytes come from: a data URL, the store of uploads, or a fetched URL."""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import pybase64

from rm_core.errors import ImageNotFound, InvalidImage, TooLarge
from service import schemas
from service.errors import DigestMismatch, NotSupported

HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_WEB_URL = re.compile(r"https?:", re.IGNORECASE | re.ASCII)
_DATA_URL = re.compile(r"data:image/(?:png|jpe?g|webp);base64", re.IGNORECASE)


class ImageStore:
    """Uploaded pictures by digest, bounded in bytes; the least recently used are forgotten."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()  # requests read from the preparation threads

    def __len__(self) -> int:
        return len(self._pictures)

    def put(self, digest: str, data: bytes) -> bool:
        """Keep `data`, forgetting others to make room; False when it was there already."""
        if len(data) > self.limit_bytes:
            raise TooLarge(
                f"the picture has {len(data)} bytes; the whole store holds {self.limit_bytes}"
            )
        with self._lock:
            if digest in self._pictures:
                self._pictures.move_to_end(digest)
                return False
            self._pictures[digest] = data
            self.size_bytes += len(data)
            while self.size_bytes > self.limit_bytes:
                _, forgotten = self._pictures.popitem(last=False)
                self.size_bytes -= len(forgotten)
        return True

    def get(self, digest: str) -> bytes:
        with self._lock:
            if digest not in self._pictures:
                raise ImageNotFound(
                    f"no picture sha256:{digest} is stored here (any more); upload it again "
                    f"with PUT /images/{digest}"
                )
            self._pictures.move_to_end(digest)
            return self._pictures[digest]


def check_digest(data: bytes, digest: str) -> None:
    """The body of an upload must be what its address says."""
    if (actual := hashlib.sha256(data).hexdigest()) != digest:
        raise DigestMismatch(f"the body's sha256 is {actual}; the address says {digest}")


def picture_urls(body: schemas.Prompt) -> list[tuple[str, str]]:
    """The field and the URL of every picture, in the order of the request."""
    if body.messages is None:
        return [(f"images[{i}]", url) for i, url in enumerate(body.images)]
    return [
        (f"messages[{i}].content[{j}].image_url.url", part.image_url.url)
        for i, message in enumerate(body.messages)
        if not isinstance(message.content, str)
        for j, part in enumerate(message.content)
        if isinstance(part, schemas.ImageContent)
    ]


def web_urls(pictures: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each distinct http(s) URL among (field, URL) pairs, and the first field it is in."""
    found: dict[str, str] = {}
    for field, url in pictures:
        if _WEB_URL.match(url):
            found.setdefault(url, field)
    return found


def picture_bytes(url: str, store: ImageStore, fetched: Mapping[str, bytes]) -> bytes:
    """The encoded picture that `url` stands for; `fetched` holds what lay behind http(s) URLs."""
    if url in fetched:
        return fetched[url]
    scheme, _, rest = url.partition(":")
    match scheme.lower():
        case "data":
            return _data_url_bytes(url)
        case "sha256":
            return store.get(_digest(rest))
        case "http" | "https":
            raise NotSupported(
                "fetching URLs is off on this server (VLRM_MEDIA_URLS); send the picture as a "
                "data: URL, or upload it with PUT /images/<sha256> and send sha256:<hex>"
            )
        case _:
            raise InvalidImage("a picture is a data:image/...;base64, URL or sha256:<hex>")


def _digest(text: str) -> str:
    if not HEX_DIGEST.fullmatch(text):
        raise InvalidImage("sha256: is followed by 64 lower-case hex digits")
    return text


def _data_url_bytes(url: str) -> bytes:
    header, comma, payload = url.partition(",")
    if not comma or not _DATA_URL.fullmatch(header):
        raise InvalidImage("a data URL begins with data:image/png;base64, (or jpeg, webp)")
    try:
        # A hundred times as fast as the standard library's strict mode, and as strict.
        return pybase64.b64decode(payload, validate=True)
    except ValueError as error:  # binascii.Error, or letters outside ASCII
        raise InvalidImage(f"the data URL's base64 is broken: {error}") from None
