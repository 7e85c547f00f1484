"""The two pages people open in a browser; every byte of them comes from this server."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

STATIC = Path(__file__).parent.parent / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def playground() -> FileResponse:
    """Drop a picture, ask, and see two answers scored."""
    return FileResponse(STATIC / "playground.html", headers=HEADERS)


@router.get("/docs")
async def docs() -> FileResponse:
    """openapi.json, made readable."""
    return FileResponse(STATIC / "docs.html", headers=HEADERS)
