"""A Hub on 127.0.0.1 for the real client: huggingface_hub's downloads, uploads and tags, and faults."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml


class FakeHub(ThreadingHTTPServer):
    """repositories: "owner/repo" -> {branch, tag or commit: {path: bytes}}.

    fault: None | "hang" | "truncated" | "changed" | a status as a number; `asked` lists "METHOD path".
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.blobs: dict[str, bytes] = {}  # what was uploaded as large files, by SHA-256
        self.fault: str | int | None = None
        self.asked: list[str] = []
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A commit of `files` to which `branch` now points; returns its hash."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repositories.setdefault(repository, {}).update({branch: files, commit: files})
        return commit

    def commit(self, repository: str, revision: str) -> str:
        snapshots = self.repositories[repository]
        return next(key for key, files in snapshots.items() if len(key) == 40 and files == snapshots[revision])

    def handle_error(self, request, client_address) -> None:
        """A client that was stopped is not worth a traceback."""


@contextmanager
def serve() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.ending.set()
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, format, *args) -> None:
        pass

    def do_GET(self) -> None:
        self._begin()
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if self._broken():
            return
        if parts[:2] == ["api", "models"]:
            self._info("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main")
        elif parts[2:3] == ["resolve"]:
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._say(404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._begin()
        body = self._body()
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if self._broken():
            return
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            known = name in self.server.repositories
            if not known:
                self.server.put(name, {".gitattributes": b""})
            self._tell({"url": f"{self.server.url}/{name}", "name": name}, 409 if known else 200)
        elif parts == ["api", "validate-yaml"]:
            front = json.loads(body)["content"].split("---")[1]
            self._tell({"errors": [] if yaml.safe_load(front) else [{"message": "no metadata"}], "warnings": []})
        elif parts[4:5] == ["preupload"]:
            files = [
                {"path": f["path"], "shouldIgnore": False, "uploadMode": _mode(f["path"])}
                for f in json.loads(body)["files"]
            ]
            self._tell({"files": files})
        elif parts[-3:] == ["lfs", "objects", "batch"]:
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._tell({"transfer": "basic", "objects": objects})
        elif parts[4:5] == ["commit"]:
            self._commit("/".join(parts[2:4]), parts[5], [json.loads(line) for line in body.splitlines()])
        elif parts[4:5] == ["tag"]:
            snapshots = self.server.repositories["/".join(parts[2:4])]
            snapshots[json.loads(body)["tag"]] = snapshots[parts[5]]
            self._say(200)
        else:
            self._say(404)

    def do_PUT(self) -> None:
        self._begin()
        data = self._body()
        oid = self.path.rpartition("/")[2]
        self.server.blobs[oid] = data
        self._say(200 if hashlib.sha256(data).hexdigest() == oid else 400)

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []  # sent in chunks
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _begin(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def _broken(self) -> bool:
        fault = self.server.fault
        if fault == "hang":
            self.server.ending.wait(60)
            self.close_connection = True
        elif isinstance(fault, int):
            self._say(fault)
        return fault == "hang" or isinstance(fault, int)

    def _info(self, repository: str, revision: str) -> None:
        snapshots = self.server.repositories.get(repository)
        if snapshots is None:
            self._say(404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in snapshots:
            self._say(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [{"rfilename": path} for path in snapshots[revision]]
            self._tell({"id": repository, "sha": self.server.commit(repository, revision), "siblings": siblings})

    def _file(self, repository: str, revision: str, path: str) -> None:
        commit = self.server.commit(repository, revision)
        data = self.server.repositories[repository][revision].get(path)
        if data is None:
            self._say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.fault == "truncated" and path.endswith(".safetensors"):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            time.sleep(0.05)
            self.close_connection = True
        elif self.server.fault == "changed" and path.endswith(".safetensors"):
            self.wfile.write(data[:-1] + bytes([data[-1] ^ 1]))
        else:
            self.wfile.write(data)

    def _commit(self, repository: str, branch: str, lines: list[dict]) -> None:
        files = dict(self.server.repositories[repository][branch])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        commit = self.server.put(repository, files, branch)
        self._tell({"commitOid": commit, "commitUrl": f"{self.server.url}/{repository}/commit/{commit}"})

    def _tell(self, values: dict, status: int = 200) -> None:
        self._say(status, {"Content-Type": "application/json"}, json.dumps(values).encode())

    def _say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"
