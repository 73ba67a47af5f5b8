"""A small Google Cloud Storage of a test's own: python -m tests.object_store prints its address.

It keeps objects in memory and speaks as much of the JSON API as gcsfs, tensorstore and
google-cloud-storage use, generations and their preconditions included: locks and orbax's
checkpoints rest on them, and the emulators that pip has leave them out.
"""

import base64
import hashlib
import itertools
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bucket"


def start() -> tuple[subprocess.Popen, dict[str, str]]:
    """Starts one in a process of its own: it, and the environment by which programs find it."""
    command = [sys.executable, __file__]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout
    address = server.stdout.readline().strip()
    return server, {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_CLOUD_PROJECT": "test",
        "NO_GCE_CHECK": "true",  # nor is a machine that would give credentials
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks a service that is not here
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # or each reply is two packets, of which the second waits
    lock = threading.Lock()
    objects: dict[str, tuple[bytes, int]]  # name -> (content, generation)
    uploads: dict[str, tuple[str, bytearray]]
    numbers = itertools.count(1_000_000)

    def log_message(self, *_):
        pass

    def handle_any(self):
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = re.fullmatch(
            r"(?:/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.*))?)?", url.path
        )
        with self.lock:
            if not found or found[1] != BUCKET:
                self.reply(404, {"error": {"code": 404, "message": "The bucket does not exist"}})
            elif url.path.startswith("/upload"):
                self.upload(query, body)
            elif found[2] is not None:
                self.object(unquote(found[2]), query)
            elif url.path.endswith("/o"):
                self.list(query)
            else:
                self.reply(200, {"kind": "storage#bucket", "id": BUCKET, "name": BUCKET})

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def upload(self, query, body):
        if "upload_id" in query:  # a part of a resumable one
            name, content = self.uploads[query["upload_id"]]
            content += body
            _, _, total = self.headers.get("Content-Range", "bytes */*").rpartition("/")
            if total == "*" or len(content) < int(total):
                self.reply(308, None, {"Range": f"bytes=0-{len(content) - 1}"})
                return
            self.write(name, bytes(content), {})
        elif query["uploadType"] == "resumable":
            key = str(next(self.numbers))
            name = query.get("name") or json.loads(body)["name"]
            self.uploads[key] = name, bytearray()
            place = f"http://{self.headers['Host']}{self.path}&upload_id={key}"
            self.reply(200, {}, {"Location": place})
        elif query["uploadType"] == "multipart":
            # as gcsfs sends it: two parts, with nothing but \n at the ends of lines
            mark = (
                b"--" + re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
            )
            about = body.split(b"\n\n")[1].partition(b"\n" + mark)[0]
            data = body.split(b"\n\n", 2)[2].removesuffix(b"\n" + mark + b"--")
            self.write(json.loads(about)["name"], data, query)
        else:
            self.write(query["name"], body, query)

    def write(self, name, content, query):
        there = self.objects.get(name, (b"", 0))[1]
        if int(query.get("ifGenerationMatch", there)) != there:
            self.reply(412, {"error": {"code": 412, "message": "conditionNotMet"}})
            return
        self.objects[name] = content, next(self.numbers)
        self.reply(200, self.about(name))

    def object(self, name, query):
        if "/moveTo/o/" in name:
            source, target = name.split("/moveTo/o/")
            self.objects[target] = self.objects.pop(source)[0], next(self.numbers)
            self.reply(200, self.about(target))
        elif name not in self.objects:
            self.reply(404, {"error": {"code": 404, "message": f"No such object: {name}"}})
        elif self.command == "DELETE":
            del self.objects[name]
            self.reply(204, None)
        elif query.get("alt") == "media":
            self.read(*self.objects[name])
        else:
            self.reply(200, self.about(name))

    def read(self, content, generation):
        headers = {"x-goog-generation": str(generation), "x-goog-metageneration": "1"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not span:
            self.reply(200, content, headers)
            return
        first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
        if first >= len(content):
            self.reply(416, None)
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.reply(206, content[first : last + 1], headers)

    def list(self, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        start, end = query.get("startOffset", ""), query.get("endOffset") or "\U0010ffff"
        items, prefixes = [], {}
        for name in sorted(self.objects):
            if not name.startswith(prefix) or not start <= name < end:
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes[prefix + rest.partition(delimiter)[0] + delimiter] = None
            else:
                items.append(self.about(name))
        self.reply(200, {"kind": "storage#objects", "items": items, "prefixes": list(prefixes)})

    def about(self, name):
        content, generation = self.objects[name]
        return {
            "kind": "storage#object",
            "bucket": BUCKET,
            "name": name,
            "generation": str(generation),
            "metageneration": "1",
            "size": str(len(content)),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "updated": "2020-01-01T00:00:00.000Z",
            "timeCreated": "2020-01-01T00:00:00.000Z",
        }

    def reply(self, status, content, headers=None):
        data = b"" if content is None else content
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    Handler.objects, Handler.uploads = {}, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
