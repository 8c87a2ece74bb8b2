"""Documents that several people write at once: an actor for each, which is a Yjs document.

A client of `y-websocket` connects to /parties/document/{name}; GET of the same address is the text as it is now. The page is `web`,
without a build step: the browser loads the npm packages as published, and an import map tells it where they are.
"""

from __future__ import annotations

import json
from pathlib import Path

import pycrdt

from stead import HTTPException, PlainTextResponse, Request, Response, Service, route
from stead.yjs import YRoom

PAGE = Path(__file__).parent / "web"
PACKAGES = Path(__file__).parent / "node_modules"  # from `npm ci`
ENTRIES = {"yjs": "yjs/dist/yjs.mjs", "y-websocket": "y-websocket/src/y-websocket.js"}
LIBRARIES = ("lib0", "y-protocols")  # of these the entries import single modules
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript"}


class Document(YRoom):
    """One text."""

    async def fetch(self, request: Request) -> Response:
        if request.method != "GET":
            raise HTTPException(405, "a document answers GET, and sockets")
        return PlainTextResponse(str(self.doc.get("text", type=pycrdt.Text)))


class Web(Service):
    """The page, and the packages that it loads."""

    @route("GET", "/")
    async def page(self, request: Request) -> Response:
        html = (PAGE / "index.html").read_text().replace("{}", json.dumps({"imports": import_map()}), 1)
        return Response(html, media_type="text/html", headers={"cache-control": "no-cache"})

    @route("GET", "/web/{path:path}")
    async def part(self, request: Request, path: str) -> Response:
        return file_in(PAGE, path)

    @route("GET", "/npm/{path:path}")
    async def package(self, request: Request, path: str) -> Response:
        return file_in(PACKAGES, path)


def import_map() -> dict[str, str]:
    """Where the browser finds what a module imports by name."""
    if not all((PACKAGES / entry).is_file() for entry in ENTRIES.values()):
        raise HTTPException(503, "yjs and y-websocket are not installed: run `npm ci` in examples/editor")
    modules = {f"{name}/{file.stem}": f"{name}/{file.name}" for name in LIBRARIES for file in (PACKAGES / name).glob("*.js")}
    return {name: f"/npm/{file}" for name, file in sorted({**ENTRIES, **modules}.items())}


def file_in(place: Path, path: str) -> Response:
    file = (place / path).resolve()
    if not file.is_relative_to(place.resolve()) or file.suffix not in KINDS or not file.is_file():
        raise HTTPException(404, f"there is no {path}")
    return Response(file.read_bytes(), media_type=KINDS[file.suffix], headers={"cache-control": "no-cache"})
