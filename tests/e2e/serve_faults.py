"""drover serve under faults: clients that leave, read nothing, send half a request, too much or nonsense; thousands that are
idle; a disk that is full; a kill in the middle; an adapter that is taken away while it is used.
usage: serve_faults.py TREE DROVER MODEL [ADAPTER]    the last line is "N passed, N failed, N skipped" """
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

tree, drover, model = sys.argv[1:4]
adapter = sys.argv[4] if len(sys.argv) > 4 else None
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(tree, "bench"))
from servelib import client, servers, stress  # noqa: E402

passed = failed = skipped = 0
work = tempfile.mkdtemp(prefix="faults-")


def check(what, good, said=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAIL %s: %s" % (what, said))
        sys.stdout.flush()


def skip(what):
    global skipped
    skipped += 1
    print("skip " + what)


def start(*flags, nofile=None):
    """A server on the model, which answers."""
    port = servers.free_port()
    argv = [drover, "serve", model, "--port", str(port), "-t", "1"] + list(flags)
    if nofile:
        argv = ["sh", "-c", "ulimit -n %d; exec \"$@\"" % nofile, "sh"] + argv
    s = servers.Server("drover", argv, port, os.path.join(work, "log"))
    s.wait("/ready", 120)
    return s


def body(n_prompt=16, n=16, **more):
    return {"model": "", "prompt": [1 + i % 200 for i in range(n_prompt)], "max_tokens": n, "temperature": 0, "ignore_eos": True,
            "stream": True, "stream_options": {"include_usage": True}, **more}


def ask(s, b, timeout=60, path="/v1/completions", **more):
    r = client.Request(path, b, **more)
    client.Load(s.port, keep_text=True).run([r], 1, timeout)
    return r


def lives(s, what):
    """It still answers, and as before."""
    if not s.alive():
        check(what + ": the server lives", False, "ended with %s: %s" % (s.proc.returncode, s.tail()))
        raise SystemExit(finish())
    r = ask(s, body())
    check(what + ": it answers as before", r.good() and r.text == lives.text, "%s %s %r" % (r.status, r.error, r.text))


def free(s, what, seconds):
    try:
        t = stress.idle(s, seconds)
    except (OSError, KeyError) as e:
        t, what = None, "%s (%s)" % (what, e)
    check(what + ": nothing runs any more", t is not None, "after %g s" % seconds)


def raw(s, data, seconds=10, shut=False):
    """What comes back for these bytes until the server closes or the time is over: (bytes, closed)."""
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        c.settimeout(0.2)
        got, until = b"", time.monotonic() + seconds
        try:
            c.sendall(data)
            if shut:
                c.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        while time.monotonic() < until:
            try:
                d = c.recv(65536)
            except socket.timeout:
                if got and answered(got):
                    return got, False
                continue
            except OSError:
                return got, True
            if not d:
                return got, True
            got += d
        return got, False


def answered(got):
    head, sep, rest = got.partition(b"\r\n\r\n")
    n = [int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:")]
    return bool(sep) and bool(n) and len(rest) >= n[0]


def status(got):
    try:
        return int(got.split()[1])
    except (IndexError, ValueError):
        return 0


def post(path, data, *heads):
    return ("POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, "".join(h + "\r\n" for h in heads))).encode() + data


# ---- the faults; each gets a server that lives, and leaves it alive

def gone_in_prompt(s):
    for i in range(5):
        r = ask(s, body(LONG, 8), cancel_after=0.02 + 0.02 * i)
        check("client gone in a prompt: it left", r.cancelled, r.error)
    free(s, "client gone in a prompt", 5)
    lives(s, "client gone in a prompt")


def gone_in_reply(s):
    for i in range(5):
        r = ask(s, body(16, 1500), cancel_events=1 + 3 * i)
        check("client gone in a reply: it left", r.cancelled, r.error)
    r = ask(s, body(16, 1500, stream=False), cancel_after=0.1)
    check("client gone that did not stream", r.cancelled, r.error)
    free(s, "client gone in a reply", 5)
    lives(s, "client gone in a reply")


def reset(s):
    """Clients that leave with a reset, in every stage."""
    import struct
    data = client.Request("/v1/completions", body(16, 400)).wire("127.0.0.1")
    for n in (0, 1, 20, len(data) - 5, len(data)):
        c = socket.create_connection(("127.0.0.1", s.port))
        c.sendall(data[:n])
        time.sleep(0.05)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
    free(s, "connections reset", 5)
    lives(s, "connections reset")


def half_closed(s):
    """A client that says it will send no more may still read: it gets its answer, or is closed. Either way it ends."""
    got, closed = raw(s, client.Request("/v1/completions", body(16, 8)).wire("127.0.0.1"), 20, shut=True)
    check("half-closed after the request: ends", closed, got[-80:])
    got, closed = raw(s, post("/v1/completions", b"{", "Content-Length: 500"), 20, shut=True)
    check("half-closed in the body: ends", closed, got[-80:])
    free(s, "half-closed", 5)
    lives(s, "half-closed")


def slow_readers(s):
    """Clients that ask for much and read nothing hold neither the engine nor memory, and get all of it when they read."""
    many, n = [], 1200
    before = s.status("RssAnon")
    for _ in range(4):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect(("127.0.0.1", s.port))
        c.sendall(client.Request("/v1/completions", body(16, n, logprobs=5)).wire("127.0.0.1"))
        many.append(c)
    time.sleep(0.5)
    t = time.monotonic()
    r = ask(s, body())
    check("slow readers: others are answered", r.good() and r.text == lives.text and time.monotonic() - t < 20, "%s %s" % (r.status, r.error))
    time.sleep(1)
    grown = s.status("RssAnon") - before
    check("slow readers: memory", grown < 16 << 10, "%d KB more" % grown)
    got = b""
    many[0].settimeout(60)
    try:
        while b"data: [DONE]" not in got[-64:]:
            d = many[0].recv(1 << 20)
            if not d:
                break
            got += d
    except OSError as e:
        check("slow readers: reads the rest", False, e)
    usage = [json.loads(x[5:]) for x in got.split(b"\n") if x.startswith(b"data: {") and b'"completion_tokens"' in x]
    check("slow readers: all of it is there", usage and usage[-1]["usage"]["completion_tokens"] == n, got[-300:])
    for c in many:
        c.close()
    free(s, "slow readers gone", 10)
    lives(s, "slow readers")


def half_requests(s):
    """Requests that never become whole: nothing of them is kept for longer than the read timeout (2 s here)."""
    whole = client.Request("/v1/completions", body()).wire("127.0.0.1")
    socks = []
    for n in (40, 60, len(whole) - 200, len(whole) - 1):          # what has no whole first line yet is an idle connection
        c = socket.create_connection(("127.0.0.1", s.port))
        c.sendall(whole[:n])
        c.settimeout(0.1)
        socks.append(c)
    drip = socket.create_connection(("127.0.0.1", s.port))      # a byte now and then does not make it longer
    drip.settimeout(0.01)
    ended, until, i = set(), time.monotonic() + 15, 0
    while time.monotonic() < until and len(ended) < len(socks) + 1:
        for c in socks + [drip]:
            if c in ended:
                continue
            try:
                if not c.recv(4096):
                    ended.add(c)
            except socket.timeout:
                pass
            except OSError:
                ended.add(c)
        try:
            drip.send(whole[i:i + 1])
            i += 1
        except OSError:
            ended.add(drip)
    check("half requests are ended", len(ended) == len(socks) + 1, "%d of %d" % (len(ended), len(socks) + 1))
    for c in socks + [drip]:
        c.close()
    lives(s, "half requests")


def idle_connections(s):
    want = 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < want + 500:
        return skip("10,000 idle connections: the limit of open files is %d" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before, files = s.status("RssAnon"), s.files()
    socks = []
    try:
        for i in range(want):
            c = socket.socket()
            c.setblocking(False)
            try:
                c.connect(("127.0.0.1", s.port))
            except BlockingIOError:
                pass
            socks.append(c)
            if i % 500 == 499:
                time.sleep(0.02)
        until = time.monotonic() + 20
        while s.files() - files < want and time.monotonic() < until:
            time.sleep(0.1)
        check("10,000 idle connections are held", s.files() - files >= want, "%d" % (s.files() - files))
        t = time.monotonic()
        lives(s, "10,000 idle connections")
        check("10,000 idle connections: quickly", time.monotonic() - t < 5, time.monotonic() - t)
        each = (s.status("RssAnon") - before) / want
        check("10,000 idle connections: memory", each < 12, "%.1f KB each" % each)
        cpu = s.cpu()
        time.sleep(1)
        check("10,000 idle connections cost nothing", s.cpu() - cpu < 0.3, "%.2f s in one" % (s.cpu() - cpu))
    finally:
        for c in socks:
            c.close()
    time.sleep(0.5)
    until = time.monotonic() + 10
    while s.files() > files + 8 and time.monotonic() < until:
        time.sleep(0.1)
    check("10,000 connections gone", s.files() <= files + 8, "%d files more" % (s.files() - files))
    lives(s, "10,000 connections gone")


def huge(s):
    before = s.status("RssAnon")
    got, _ = raw(s, post("/v1/completions", b"", "Content-Length: 99999999999"), 5)
    check("a body of 100 GB: 413", status(got) == 413, got[:100])
    got, _ = raw(s, post("/v1/completions", b"", "Content-Length: 99999999999999999999999999"), 5)
    check("a length past 64 bits: 4xx", 400 <= status(got) < 500, got[:100])
    got, _ = raw(s, post("/v1/completions", b"", "Content-Length: -5"), 5)
    check("a negative length: 4xx", 400 <= status(got) < 500, got[:100])
    part = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
    got, closed = raw(s, post("/v1/completions", part * 600, "Transfer-Encoding: chunked"), 20)
    check("40 MB in chunks: 413, or closed", status(got) == 413 or closed, got[:100])
    got, closed = raw(s, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n", 10)
    check("a head of 1 MB: 4xx, or closed", 400 <= status(got) < 500 or closed, got[:100])
    got, closed = raw(s, b"GET /" + b"z" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 10)
    check("a path of 1 MB: 4xx, or closed", 400 <= status(got) < 500 or closed, got[:100])
    grown = s.status("RssAnon") - before
    check("what is huge is not kept", grown < 24 << 10, "%d KB more" % grown)
    lives(s, "huge requests")


def nonsense(s):
    good = json.dumps(body(stream=False)).encode()
    bad = {"nothing": b"", "no JSON": b"{", "half of it": good[:-10], "an array": b"[]", "a number": b"7", "null": b"null",
           "a zero byte": good[:20] + b"\0" + good[20:], "invalid UTF-8": b'{"prompt":"\xff\xfe"}', "a lone surrogate": b'{"prompt":"\\ud800"}',
           "two objects": good + good, "a million brackets": b'{"a":' + b"[" * 1000000, "a key twice": b'{"prompt":"a","prompt":"b","max_tokens":1}',
           "large numbers": b'{"prompt":"a","max_tokens":1e999}', "a larger one": b'{"prompt":"a","max_tokens":99999999999999999999}',
           "binary": bytes(range(256)) * 40}
    for what, data in bad.items():
        got, _ = raw(s, post("/v1/completions", data, "Content-Type: application/json", "Content-Length: %d" % len(data)), 20)
        head, _, rest = got.partition(b"\r\n\r\n")
        try:
            message = json.loads(rest)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = ""
        check("a body with %s: 400 and a sentence" % what, status(got) == 400 and message, got[:200])
    for what, data in {"no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, "a line": b"hello\r\n\r\n", "HTTP/9": b"GET / HTTP/9.9\r\n\r\n",
                       "lines without end": b"\r\n" * 5000, "two lengths": post("/v1/completions", b"{}{}", "Content-Length: 2", "Content-Length: 4")}.items():
        got, closed = raw(s, data, 4)
        check("%s: refused" % what, closed or status(got) >= 400 or not got, got[:100])
    lives(s, "nonsense")


def many_at_once(s):
    """More than fit: each is answered or told to come later, none is lost."""
    load = client.Load(s.port, keep_text=True)
    over = load.run([client.Request("/v1/completions", body(16, 16)) for _ in range(600)], 600, 120)
    good, busy = [r for r in over if r.good()], [r for r in over if r.status == 429]
    check("600 at once: each is answered or refused", len(good) + len(busy) == 600 and good,
          [(r.status, r.error) for r in over if not r.good() and r.status != 429][:3])
    check("600 at once: the same answer", all(r.text == lives.text for r in good), [r.text for r in good if r.text != lives.text][:2])
    check("600 at once: 429 says when", all((r.retry_after or "").isdigit() for r in busy))
    lives(s, "600 at once")


def adapter_removed(s):
    if not adapter:
        return skip("an adapter removed while used: no adapter was given")
    st, out = client.call(s.port, "POST", "/v1/load_lora_adapter", {"lora_name": "extra", "lora_path": adapter})
    check("adapter: loaded", st == 200, "%d %s" % (st, out[:200]))
    base = ask(s, body(16, 400, model="extra"))
    check("adapter: it answers", base.good(), base.error)
    load = client.Load(s.port, keep_text=True)
    rs = [client.Request("/v1/completions", body(16, 400, model="extra")) for _ in range(3)]
    gone = []

    def tick():
        if not gone and all(r.events > 5 for r in rs):
            gone.append(client.call(s.port, "POST", "/v1/unload_lora_adapter", {"lora_name": "extra"})[0])

    load.run(rs, 3, 60, tick)
    check("adapter: removed while three use it", gone == [200], gone)
    check("adapter: those three are answered as if it were there", all(r.good() and r.text == base.text for r in rs),
          [(r.status, r.error) for r in rs])
    r = ask(s, body(16, 4, model="extra"))
    check("adapter: then there is none of that name", r.status == 404, "%s %s" % (r.status, r.error))
    lives(s, "adapter")


def drain(s):
    """SIGTERM: what runs comes to its end, what comes is refused, and the status is 0."""
    load = client.Load(s.port, keep_text=True)
    rs = [client.Request("/v1/completions", body(16, 600)) for _ in range(3)]
    late = []

    def tick():
        if not late and all(r.events > 3 for r in rs):
            s.proc.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            late.append(ask(s, body(), 10))

    load.run(rs, 3, 60, tick)
    check("drain: what ran is whole", all(r.good() and r.tokens() == 600 for r in rs), [(r.status, r.error) for r in rs])
    check("drain: what comes is refused", late and not late[0].good() and late[0].status in (0, 429, 503), late and (late[0].status, late[0].error))
    try:
        rc = s.proc.wait(20)
    except subprocess.TimeoutExpired:
        rc = "still running"
    check("drain: ends with 0", rc == 0, "%s %s" % (rc, s.tail()))


def killed(store):
    """Killed in the middle of work with a store of prefixes, again and again: it starts, and answers the same."""
    for i in range(3):
        s = start("--prefix-store", store)
        try:
            r = ask(s, body())
            check("killed %d times: answers" % i, r.good() and r.text == lives.text, "%s %s" % (r.status, r.error))
            rs = [client.Request("/v1/completions", body(200 + 60 * k, 3000)) for k in range(4)]
            t0 = time.monotonic()
            client.Load(s.port).run(rs, 4, 30, lambda: s.proc.kill() if time.monotonic() - t0 > 0.3 + 0.2 * i else None)
            check("killed in the middle", not all(r.good() for r in rs), "they were done before")
            s.kill()
        finally:
            s.kill()
    s = start("--prefix-store", store)
    lives(s, "after kills")
    check("after kills: ends well", s.stop() == 0, s.tail())


def full_disk():
    """A store on a disk of 256 KB: nothing is lost but the store."""
    disk = os.path.join(work, "disk")
    os.mkdir(disk)
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        return skip("a full disk: needs root and mount")
    try:
        s = start("--prefix-store", disk)
        try:
            for n in (100, 300, 700, 1200, 300):
                r = ask(s, body(n, 8))
                check("full disk: a prompt of %d" % n, r.good(), "%s %s" % (r.status, r.error))
            lives(s, "full disk")
            check("full disk: ends well", s.stop() == 0, s.tail())
            s = start("--prefix-store", disk)
            lives(s, "full disk, started again")
            check("full disk, started again: ends well", s.stop() == 0, s.tail())
        finally:
            s.kill()
    finally:
        subprocess.run(["umount", disk], capture_output=True)


def finish():
    shutil.rmtree(work, ignore_errors=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return int(failed > 0)


LONG = 7800
FAULTS = [gone_in_prompt, gone_in_reply, reset, half_closed, slow_readers, half_requests, huge, nonsense, many_at_once, idle_connections,
          adapter_removed, drain]


def main():
    only = os.environ.get("FAULTS", "").split()
    lora = ["--lora-dir", os.path.dirname(adapter)] if adapter else []
    s = start("--read-timeout", "2", "--idle-timeout", "300", *lora, nofile=20000 if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 20000 else None)
    try:
        first = ask(s, body())
        check("answers", first.good() and first.tokens() == 16, "%s %s" % (first.status, first.error))
        lives.text = first.text
        for fault in FAULTS:
            if not only or fault.__name__ in only:
                t = time.monotonic()
                fault(s)
                if os.environ.get("V"):
                    print("  %s %.1f s" % (fault.__name__, time.monotonic() - t))
        if s.alive():
            s.stop()
    finally:
        s.kill()
    if not only or "killed" in only:
        store = os.path.join(work, "store")
        os.mkdir(store)
        killed(store)
    if not only or "full_disk" in only:
        full_disk()
    return finish()


sys.exit(main())
