#!/usr/bin/env python3
"""A model hub that misbehaves on purpose, for get.sh.

usage: get_server.py FOLDER    (loopback only; writes FOLDER/ports, then FOLDER/log)

Every repository t/NAME has the same files; NAME says what goes wrong with its weights. A line of
the log is: PORT PATH RANGE TOKEN, "-" for what a request does not have.
"""
import hashlib, json, os, random, re, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder = sys.argv[1]
rng = random.Random(7)
BIG = rng.randbytes(300000)
SMALL = {"config.json": b'{"model_type": "llama"}\n', "tokenizer.json": b"{}\n", "README.md": b"hello\n"}
PYTORCH = {"params.json": b"{}\n", "pytorch_model.bin.index.json": b"{}\n"}
lock = threading.Lock()
seen = {}
ports = []


def count(key):
    with lock:
        seen[key] = seen.get(key, 0) + 1
        return seen[key]


def blob(path, data, **more):
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return {"type": "file", "path": path, "size": len(data), "oid": oid, **more}


def lfs(path, data=BIG, **more):
    return {"type": "file", "path": path, "size": len(data), "oid": "0" * 40,
            "lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134},
            **more}


def listing(repo):
    files = [{"type": "directory", "path": "sub", "oid": "1" * 40}]
    files += [blob(n, d) for n, d in SMALL.items()]
    if repo == "ggufs":
        return files + [lfs("a-Q4_K_M.gguf"), lfs("a-Q8_0.gguf"), lfs("sub/a-F16.gguf")]
    if repo == "onegguf":
        return [lfs("deep/er/a-Q4_0.gguf")]
    if repo == "split":
        return [lfs("a-Q8_0-%05d-of-00003.gguf" % i) for i in (1, 2, 3)] + [lfs("b-Q4_0.gguf")]
    if repo == "pth":
        return files + [lfs("consolidated.00.pth")]
    if repo == "bin":           # Hugging Face's older form, what training left, and a copy in a folder
        return files + [lfs("pytorch_model-%05d-of-00002.bin" % i) for i in (1, 2)] + [
            blob(n, d) for n, d in PYTORCH.items()] + [lfs("training_args.bin"), lfs("old/pytorch_model.bin")]
    if repo == "meta":
        return files[2:] + [blob("params.json", PYTORCH["params.json"]), lfs("consolidated.00.pth"),
                            lfs("consolidated.01.pth"), lfs("other.pth")]
    if repo == "shorthash":
        files[1]["oid"] = "2" * 40
    if repo == "traversal":
        files += [lfs("../../../evil"), lfs("/tmp/evil"), lfs("model/../../../evil.safetensors"),
                  lfs("model\\..\\x.safetensors"), lfs("drover.json"), lfs("modelx/../y.safetensors")]
    f = lfs("model.safetensors")
    if repo == "nosize":
        f = {"type": "file", "path": "model.safetensors", "oid": "3" * 40, "lfs": {}}
    return files + [f]


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def head(self, status, length, **more):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        for k, v in more.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()

    def plain(self, status, text=b"", **more):
        self.head(status, len(text), **more)
        self.wfile.write(text)

    def cut(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def do_GET(self):
        port = self.server.server_port
        with lock, open(folder + "/log", "a") as f:
            f.write("%d %s %s %s\n" % (port, self.path, self.headers.get("Range", "-"),
                                       self.headers.get("Authorization", "-").replace(" ", "_")))
        try:
            self.answer(port)
        except (BrokenPipeError, ConnectionResetError, ValueError):
            self.close_connection = True

    def answer(self, port):
        m = re.fullmatch(r"/api/models/t/([\w-]+)/tree/main\?recursive=true(&page=2)?", self.path)
        if m:
            return self.tree(m[1], m[2])
        m = re.fullmatch(r"/t/([\w-]+)/resolve/main/(.+)", self.path)
        if m and m[2] in {**SMALL, **PYTORCH}:
            return self.plain(200, {**SMALL, **PYTORCH}[m[2]])
        if m:
            return self.weights(m[1], port)
        if self.path.startswith("/cdn/"):
            return self.data(BIG)
        self.plain(404, b"no such page")

    def tree(self, repo, page2):
        if repo.isdigit():
            return self.plain(int(repo), b"<html>the page of an error</html>")
        if repo == "badjson":
            return self.plain(200, b'[{"type": "file", "pa')
        if repo == "object":
            return self.plain(200, b'{"error": "x"}')
        files = listing(repo)
        if repo == "pages":
            half = files[:3] if not page2 else files[3:]
            more = {} if page2 else {
                "Link": '<http://127.0.0.1:%d%s&page=2>; rel="next"' % (ports[0], self.path)}
            return self.plain(200, json.dumps(half).encode(), **more)
        if repo == "elsewhere":
            return self.plain(200, json.dumps(files).encode(),
                              Link='<http://127.0.0.1:%d/steal>; rel="next"' % ports[1])
        self.plain(200, json.dumps(files).encode())

    def data(self, data, limit=None, etag='"v1"', ranges=True):
        at = 0
        m = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if m and ranges and self.headers.get("If-Range", etag) == etag:
            at = int(m[1])
            if at >= len(data):
                return self.plain(416, b"", Content_Range="bytes */%d" % len(data))
            self.head(206, len(data) - at, ETag=etag,
                      Content_Range="bytes %d-%d/%d" % (at, len(data) - 1, len(data)))
        else:
            self.head(200, len(data), ETag=etag)
        body = data[at:]
        if limit is None or limit >= len(body):
            self.wfile.write(body)
        else:
            self.wfile.write(body[:limit])
            self.cut()

    def weights(self, repo, port):
        n = count(repo)
        other = bytes(reversed(BIG))
        if repo == "drop":
            self.data(BIG, 70000)
        elif repo == "norange":
            self.data(BIG, 100000 if n == 1 else None, ranges=False)
        elif repo == "newversion":                       # another ETag: what is held is stale
            self.data(other if n == 1 else BIG, 100000 if n == 1 else None, '"v%d"' % n)
        elif repo == "never":
            self.data(BIG, 0)
        elif repo == "short":
            self.plain(200, BIG[:1000])
        elif repo == "long":
            self.head(200, None)
            self.wfile.write(BIG + BIG)
        elif repo == "longlength":
            self.plain(200, BIG + b"x")
        elif repo == "early":                            # says all, sends half, always from 0
            self.head(200, len(BIG))
            self.wfile.write(BIG[:150000])
            self.cut()
        elif repo == "nolength":
            self.head(200, None)
            self.wfile.write(BIG[:150000] if n == 1 else BIG)
        elif repo == "badhash" or (repo == "badhash-once" and n == 1):
            self.data(other)
        elif repo == "wrongrange":
            if n == 1:
                return self.data(BIG, 100000)
            self.head(206, 1000, ETag='"v1"', Content_Range="bytes 5-1004/%d" % len(BIG))
            self.wfile.write(BIG[5:1005])
        elif repo == "redirect":
            self.head(302, 0, Location="http://127.0.0.1:%d/cdn/x" % ports[1])
        elif repo == "circle":
            self.head(302, 0, Location=self.path)
        elif repo == "nowhere":
            self.head(302, 0, Location="file:///etc/passwd")
        elif repo == "stall" and n == 1:
            self.head(200, len(BIG), ETag='"v1"')
            self.wfile.write(BIG[:50000])
            self.wfile.flush()
            time.sleep(3)
        elif repo == "slow":
            self.head(200, len(BIG), ETag='"v1"')
            for i in range(0, len(BIG), 30000):
                self.wfile.write(BIG[i:i + 30000])
                self.wfile.flush()
                time.sleep(0.1)
        elif repo == "busy" and n <= 2:
            self.plain(429, b"", Retry_After="1")
        elif repo == "broken" and n <= 2:
            self.plain(500 + n, b"oh")
        elif repo == "busy-always":
            self.plain(429)
        elif repo.startswith("file-"):
            self.plain(int(repo[5:]), b"<html>no</html>", X_Error_Message="you may not")
        elif repo == "nosize":
            self.head(200, len(BIG), ETag='"v1"', X_Linked_Etag='"%s"' % hashlib.sha256(other).hexdigest())
            self.wfile.write(BIG)
        else:
            self.data(BIG)


servers = [ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(2)]
ports = [s.server_port for s in servers]
for s in servers:
    s.daemon_threads = True
    threading.Thread(target=s.serve_forever, daemon=True).start()
with open(folder + "/ports.new", "w") as f:
    f.write("%d %d\n" % tuple(ports))
open(folder + "/log", "w").close()
os.rename(folder + "/ports.new", folder + "/ports")
time.sleep(300)              # an orphan ends by itself
