"""A hub on this machine: the few addresses that huggingface_hub asks for, served from memory."""

import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Repository:
    """A model on the hub.

    Attributes:
      commits: commit to its files, path to content.
      refs: branches and tags, to a commit.
      token: that may read it; "" for everybody.
      gated: whether the token is asked for only when a file is.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    token: str = ""
    gated: bool = False

    def push(self, folder: Path, branch: str = "main", **more: bytes) -> str:
        """Adds a commit with the files of a folder, and moves a branch to it."""
        files = {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }
        files |= {name.replace("__", "/"): content for name, content in more.items()}
        said = json.dumps([[k, hashlib.sha1(v).hexdigest()] for k, v in sorted(files.items())])
        commit = hashlib.sha1(f"{len(self.commits)}{said}".encode()).hexdigest()
        self.commits[commit] = files
        self.refs[branch] = commit
        return commit


@dataclass
class Hub:
    """The server.

    Attributes:
      address: for HF_ENDPOINT.
      elsewhere: where files' contents are: another host, which no token must be sent to.
      repositories: by id.
      asked: method and path of each request, in order.
      tokens: every token that was sent.
    """

    address: str = ""
    elsewhere: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def fetched(self) -> set[str]:
        """The files whose content was asked for."""
        return {urllib.parse.unquote(a.split("/", 5)[5]) for a in self.asked if "GET /cdn/" in a}


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """Runs a hub, in a thread, until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address, hub.elsewhere = (
        f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost")
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        """/api/models/ID/revision/REV, /api/models/ID/tree/REV, /ID/resolve/REV/FILE, and /cdn/."""
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.served.asked.append(f"{self.command} {self.path}")
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.served.tokens |= {token} - {""}
        parts = path.strip("/").removeprefix("api/models/").split("/", 4)
        if parts[0] == "cdn":
            assert not token
            _, *name, commit, file = parts
            return self._send(200, self.served.repositories["/".join(name)].commits[commit][file])
        if len(parts) < 4:  # something about the hub itself
            return self._send(404, b"")
        organisation, name, what, revision, *file = parts
        known = self.served.repositories.get(f"{organisation}/{name}")
        barred = known and known.token and token != known.token
        if known is None or (barred and not known.gated):
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        commit = revision if revision in known.commits else known.refs.get(revision, "")
        if not commit:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = known.commits[commit]
        if what == "revision":
            return self._json({"id": f"{organisation}/{name}", "sha": commit, "siblings": []})
        if what == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(data), "oid": _etag(data)}
                for path, data in files.items()
            ]
            return self._json(listed)
        if barred:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        data, quoted = files[file[0]], urllib.parse.quote(file[0], "")
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{_etag(data)}"',
            "X-Linked-Size": str(len(data)),
            "Location": "/".join(
                [self.served.elsewhere, "cdn", organisation, name, commit, quoted]
            ),
        }
        return self._send(302, b"", headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"ETag": f'"{_etag(body)}"', **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
