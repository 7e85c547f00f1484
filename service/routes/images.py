"""PUT /images/{sha256}: upload a picture once, name it by digest in many requests."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel

from rm_core.images import decode
from service.accept import require_plain
from service.apidoc import answers
from service.deps import Parts, PartsDep, TraceDep, require_key
from service.errors import UnsupportedMediaType
from service.limits import read_body
from service.media import check_digest

TYPES = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")

router = APIRouter(dependencies=[Depends(require_key)], tags=["pictures"])


class Stored(BaseModel):
    image: str
    bytes: int


BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in TYPES},
    }
}
EXAMPLE = {"image": "sha256:5f2b...", "bytes": 48213}


@router.put(
    "/images/{sha256}",
    responses=answers(401, 408, 413, 415, 422, 500, 503, example=EXAMPLE)
    | {201: {"model": Stored, "description": "Stored now; 200 when it was there already."}},
    openapi_extra=BODY,
)
async def put_image(
    request: Request,
    response: Response,
    sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    parts: PartsDep,
    trace: TraceDep,
) -> Stored:
    """Keep a picture under its digest; afterwards `sha256:<hex>` names it."""
    require_picture(request)
    parts.admission.check()
    with trace.stage("read"):
        data = await read_body(
            request,
            limit=parts.settings.max_body_bytes,
            timeout_s=parts.settings.body_timeout_s,
        )
    with parts.admission.permit(), trace.stage("prepare"):
        is_new = await parts.preparer.run(lambda: keep(parts, sha256, data))
    response.status_code = 201 if is_new else 200
    return Stored(image=f"sha256:{sha256}", bytes=len(data))


def keep(parts: Parts, digest: str, data: bytes) -> bool:
    """Only what would decode is kept, so that later requests cannot stumble over it."""
    check_digest(data, digest)
    decode(data, max_pixels=parts.settings.max_image_pixels)
    return parts.store.put(digest, data)


def require_picture(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise UnsupportedMediaType(f"send the picture's bytes as one of {', '.join(TYPES)}")
    require_plain(request)
