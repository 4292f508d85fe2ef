"""A Hugging Face Hub of one repository on this machine: the few routes that are used, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Hub:
    """Repositories by name, each a list of commits, which are files by name.

    Attributes:
        asked: method and path of each request.
        refuse: status and error code with which every request is answered, or None.
    """

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.asked: list[str] = []
        self.refuse: tuple[int, str] | None = None
        self.address = ""

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit on top of the last; gives its number of 40 hexadecimal digits."""
        history = self.commits.setdefault(name, [])
        kept = {**(history[-1][1] if history else {}), **files}
        number = hashlib.sha1(repr((len(history), sorted(kept.items()))).encode()).hexdigest()
        history.append((number, kept))
        return number

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a branch or number means."""
        history = self.commits.get(name, [])
        if revision == "main":
            return history[-1] if history else ("0" * 40, {})
        return next((commit for commit in history if commit[0] == revision), None)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Answer on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing."""

        def answer(self, body: Any = b"", status: int = 200, **headers: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def failed(self, status: int, code: str) -> None:
            self.answer(b"{}", status, X_Error_Code=code, X_Error_Message="refused")

        def read(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def handle_any(self) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            body = self.read()
            if hub.refuse is not None:
                return self.failed(*hub.refuse)
            words = path.strip("/").split("/")
            match (self.command, words):
                case ("POST", ["api", "repos", "create"]):
                    asked = json.loads(body)
                    name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                    hub.commits.setdefault(name, [])
                    return self.answer({"url": f"{hub.address}/{name}", "name": name, "id": name})
                case ("POST", ["api", "validate-yaml"]):
                    return self.answer({"errors": [], "warnings": []})
                case ("POST", ["api", "models", owner, name, "preupload", _]):
                    files = [
                        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for file in json.loads(body)["files"]
                    ]
                    return self.answer({"files": files})
                case ("POST", ["api", "models", owner, name, "commit", _]):
                    lines = [json.loads(line) for line in body.splitlines()]
                    sent = {
                        line["value"]["path"]: base64.b64decode(line["value"]["content"])
                        for line in lines
                        if line["key"] == "file"
                    }
                    number = hub.commit(f"{owner}/{name}", sent)
                    url = f"{hub.address}/{owner}/{name}/commit/{number}"
                    return self.answer({"commitUrl": url, "commitOid": number, "success": True})
                case (_, ["api", "models", owner, name, *rest]):
                    if f"{owner}/{name}" not in hub.commits:
                        return self.failed(404, "RepoNotFound")
                    revision = rest[1] if len(rest) > 1 else "main"
                    found = hub.find(f"{owner}/{name}", revision)
                    if found is None:
                        return self.failed(404, "RevisionNotFound")
                    if rest[:1] == ["tree"]:
                        entries = [
                            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                            for path, data in found[1].items()
                        ]
                        return self.answer(entries)
                    siblings = [{"rfilename": path} for path in found[1]]
                    return self.answer({"id": f"{owner}/{name}", "sha": found[0], "siblings": siblings})
                case (_, [owner, name, "resolve", revision, *rest]):
                    found = hub.find(f"{owner}/{name}", revision)
                    data = None if found is None else found[1].get("/".join(rest))
                    if found is None or data is None:
                        return self.failed(404, "EntryNotFound")
                    etag = f'"{hashlib.sha1(data).hexdigest()}"'
                    return self.answer(data, ETag=etag, X_Repo_Commit=found[0], Accept_Ranges="bytes")
            return self.failed(404, "")

        do_GET = do_HEAD = do_POST = handle_any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
