"""bench/serve's client and arithmetic against a server that answers in every way an HTTP server may, and in some it may not.
usage: serve_load_test.py TREE    the last line is "N passed, N failed" """
import json
import os
import socket
import sys
import threading
import time

tree = sys.argv[1]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(tree, "bench"))
from peerlib import stats  # noqa: E402
from servelib import client, prompts, rounds, stress, tables  # noqa: E402

passed = failed = 0


def check(what, got, want):
    global passed, failed
    if got == want:
        passed += 1
    else:
        failed += 1
        print("FAIL %s: %r, not %r" % (what, got, want))


def near(what, got, low, high):
    check("%s: %r in %g … %g" % (what, got, low, high), got is not None and low <= got <= high, True)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(text=None, **more):
    d = dict(more)
    if text is not None:
        d["choices"] = [{"index": 0, "text": text}]
    return b"data: " + json.dumps(d).encode() + b"\n\n"


def chunked(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts)


EVENTS = event("a") + event("") + b": ping\n\n" + event("b") + event(usage={"completion_tokens": 3, "prompt_tokens": 2}) + b"data: [DONE]\n\n"
WHOLE = HEAD + chunked(EVENTS) + b"0\r\n\r\n"


def plain(status, body, *heads):
    return ("HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), "".join(h + "\r\n" for h in heads))).encode() + body


# what the server does with a request, by its path: bytes, or seconds to wait
ANSWERS = {
    "/whole": [WHOLE],
    "/bytes": [WHOLE[i:i + 1] for i in range(len(WHOLE))],
    "/lines": [HEAD, chunked(EVENTS[:7]), chunked(EVENTS[7:30], EVENTS[30:]), b"0\r\n\r\n"],
    "/slow": [HEAD, 0.2, chunked(event("a")), 0.1, chunked(event("b")), 0.1, chunked(event("c"), b"data: [DONE]\n\n"), b"0\r\n\r\n"],
    "/nodone": [HEAD, chunked(event("a")), b"0\r\n\r\n"],
    "/cut": [HEAD, chunked(event("a"))],
    "/cuthead": [HEAD[:20]],
    "/error": [HEAD, chunked(event("a"), event(error={"message": "out of luck"})), b"0\r\n\r\n"],
    "/badjson": [HEAD, chunked(b"data: {nonsense}\n\n"), b"0\r\n\r\n"],
    "/badchunk": [HEAD, b"zz\r\nabc\r\n"],
    "/busy": [plain(429, b'{"error":{"message":"busy"}}', "Retry-After: 7")],
    "/json": [plain(200, json.dumps({"choices": [{"text": "all of it"}], "usage": {"completion_tokens": 9}}).encode())],
    "/close": [b"HTTP/1.1 200 OK\r\n\r\n" + b'{"choices": [{"message": {"content": "to the end"}}]}'],
    "/never": [HEAD, chunked(event("a")), 30],
}


def serve(sock):
    while True:
        c, _ = sock.accept()
        threading.Thread(target=answer, args=(c,), daemon=True).start()


def answer(c):
    try:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while b"\r\n\r\n" not in data:
            data += c.recv(65536)
        for part in ANSWERS[data.split()[1].decode()]:
            if isinstance(part, bytes):
                c.sendall(part)
            else:
                time.sleep(part)
    except OSError:
        pass
    c.close()


listener = socket.create_server(("127.0.0.1", 0), backlog=512)
port = listener.getsockname()[1]
threading.Thread(target=serve, args=(listener,), daemon=True).start()


def ask(path, stream=True, **more):
    r = client.Request(path, {"stream": stream}, **more)
    client.Load(port, keep_text=True).run([r], 1, 3)
    return r


for path in ("/whole", "/bytes", "/lines"):
    r = ask(path)
    check(path, (r.good(), r.status, r.text, r.events, r.tokens(), r.error), (True, 200, "ab", 2, 3, None))
r = ask("/slow")
check("slow", (r.good(), r.events, r.tokens()), (True, 3, 3))
near("its time to the first text", r.first - r.began, 0.19, 0.35)
near("its gaps", min(r.gaps), 0.09, 0.25)
check("a stream without [DONE]", (ask("/nodone").good(), ask("/nodone").error), (False, "the stream ended without [DONE]"))
check("a connection that ends in the body", ask("/cut").error, "the connection ended in the body")
check("in the head", ask("/cuthead").error, "the connection ended in the head")
check("an error in the stream", (ask("/error").good(), "out of luck" in ask("/error").error), (False, True))
check("no JSON", ask("/badjson").error.startswith("JSONDecodeError"), True)
check("no chunk", ask("/badchunk").error.startswith("ValueError"), True)
r = ask("/busy")
check("429", (r.good(), r.status, r.retry_after, r.error), (False, 429, "7", "busy"))
r = ask("/json", stream=False)
check("not streamed", (r.good(), r.text, r.tokens()), (True, "all of it", 9))
r = ask("/close", stream=False)
check("until the connection ends", (r.good(), r.text), (True, "to the end"))
r = ask("/never")
check("one that hangs", (r.good(), r.error), (False, "still under way after 3 s"))
r = ask("/never", cancel_after=0.2)
check("a client that leaves", (r.cancelled, r.error, r.good()), (True, None, False))
near("when it said", r.ended - r.began, 0.19, 0.4)
r = ask("/slow", cancel_events=2)
check("a client that leaves after two texts", (r.cancelled, r.events), (True, 2))
dead = client.Request("/x", {})
client.Load(1).run([dead], 1, 2)
check("nobody there", (dead.good(), dead.error is not None), (False, True))



class Counting(client.Load):
    peak = 0

    def begin(self, req):
        super().begin(req)
        self.peak = max(self.peak, len(self.live))


load = Counting(port)
over = load.run([client.Request("/slow", {"stream": True}) for _ in range(12)], 4, 20)
check("a closed loop", (len(over), all(r.good() for r in over), load.peak), (12, True, 4))
over = client.Load(port).run_at(iter(lambda: client.Request("/whole", {"stream": True}), 0), 50, 0.5, 5)
check("an open loop answers all", all(r.good() for r in over), True)
near("its rate", len(over), 20, 27)

# ---- figures
J = {"model": "m", "threads": 1, "concurrency": 2, "prefix": 0, "prompt": 4, "gen": 3, "requests": 2, "length": 4}


def req(began, times, tokens=3, prompt=4):
    r = client.Request("/", {"stream": True})
    r.status, r.done, r.began, r.first, r.last, r.ended = 200, True, began, times[0], times[-1], times[-1]
    r.gaps = [b - a for a, b in zip(times, times[1:])]
    r.events, r.usage = len(times), {"completion_tokens": tokens, "prompt_tokens": prompt}
    return r


two = [req(0, [1, 2, 3]), req(1, [4, 5, 6])]
check("figures", rounds.figures(J, two, 6.0, 0.6, 0.06), {"tok_s": 1.0, "first_mean": 2.0, "first_p50": 3, "first_p99": 3,
      "whole_mean": 4.0, "cpu_ms_token": 100.0, "loader": 0.01, "gap_p50": 1, "gap_p99": 1, "decode": 1.0})
check("all as asked", rounds.wrong(J, two), None)
check("too few tokens", rounds.wrong(J, [req(0, [1], 2)]), "2 tokens came, not 3")
check("another prompt", "prompt" in rounds.wrong(J, [req(0, [1], 3, 5)]), True)
two[1].error = "no"
check("one that failed", rounds.wrong(J, two), "200: no")
check("percentiles", [rounds.percentile(list(range(100)), p) for p in (0, 50, 99, 100)], [0, 50, 99, 99])


class Fake:
    bos = [7]
    ids = list(range(100, 1100))
    window = prompts.Text.window


p = prompts.Text.prompts(Fake(), 3, 5, 20, 1)
check("prompts are as long as asked", [len(x) for x in p], [25] * 3)
check("share what they shall and no more", (p[0][:20] == p[1][:20] == p[2][:20], p[0][20:] != p[1][20:], p[0][0]), (True, True, 7))
check("are the same for the same seed", prompts.Text.prompts(Fake(), 3, 5, 20, 1), p)
q = prompts.Text.prompts(Fake(), 3, 5, 0, 1)
check("and without a prefix share nothing but BOS", ([len(x) for x in q], q[0][1:] != q[1][1:]), ([5] * 3, True))

# ---- tables
PROBE = {"read_gb_s": 20.0, "read_huge_gb_s": 40.0, "int8": 900.0, "f32": 1.0, "bf16": 1.0}


def rnd(turn, ours, theirs, others=0.0, huge=40.0, n=8):
    return {"turn": turn, "date": "2026-01-01T00:00:00Z", "load": [0.1], "job": {**J, "concurrency": n},
            "probes": [PROBE, dict(PROBE, read_huge_gb_s=huge), PROBE],
            "runs": [{"program": "drover", "probe": 0, "others": 0, "command": "d", "values": ours},
                     {"program": "other", "probe": 1, "others": others, "command": "o", "values": theirs}]}


def book(kind, *r):
    return {"format": 1, "machine": {"processor": "p", "flags": [], "cpus": 2, "memory_gb": 1.0, "kernel": "6"},
            "programs": {"drover": {"version": "1", "kind": "drover"}, "other": {"version": "2", "kind": kind}}, "rounds": list(r)}


V = {"tok_s": 100.0, "first_mean": 1.0, "first_p99": 2.0, "gap_p50": 0.01, "gap_p99": 0.02, "cpu_ms_token": 5.0, "decode": 50.0}
W = {"tok_s": 40.0, "first_mean": 4.0, "first_p99": 8.0, "gap_p50": 0.01, "gap_p99": 0.02, "cpu_ms_token": 9.0, "decode": 60.0}
b = book("llama-server", rnd(0, V, W), rnd(1, V, {**W, "tok_s": 50.0}), rnd(2, V, {**W, "tok_s": 1.0}, others=0.5))
grid = tables.grids(b, stats.RULE)
check("throughput: a round beside others' work does not count", grid[0][2][0][3:],
      ["100 [100-100]", "45.0 [40.0-50.0]", "2.25 [2.00-2.50]", "2 of 3"])
check("time to the first token", grid[1][2][0][5], "0.25 [0.25-0.25]")
check("milliseconds", grid[2][2][0][3], "10.0 [10.0-10.0]")
check("a run that failed is said", tables.failures(book("x", {**rnd(0, V, W), "runs": [{"program": "other", "error": "e", "command": ""}]})),
      ["m, 8 users, 4 in, 3 out: other: e"])
one = [rnd(0, V, W, n=1), rnd(1, V, W, n=1, huge=20.0)]
for r in one:
    r["runs"][1]["program"] = "bench"
b = book("bench", *one)
b["programs"] = {"drover": b["programs"]["drover"], "bench": b["programs"]["other"]}
over = tables.grids(b, stats.RULE)[3]
check("overhead: only where the machine kept its bandwidth", over[2][0][3:], ["50.0 [50.0-50.0]", "60.0 [60.0-60.0]", "0.83 [0.83-0.83]", "1 of 2"])
page = "x\n" + tables.MARK % "r.json" + "\nold\n" + tables.END + "\nrest\n"
new = tables.into(page, "r.json", b, stats.RULE)
check("into the page", ("old" in new, new.endswith(tables.END + "\nrest\n"), tables.into(new, "r.json", b, stats.RULE) == new), (False, True, True))

# ---- what the stress tests count
same, counts, errors = {}, {}, []
r1, r2, r3 = req(0, [1]), req(0, [1]), client.Request("/", {}, tag="bad")
r1.tag = r2.tag = "same 1"
r1.text, r2.text, r3.status = "x", "y", 400
stress.judge([r1, r3], same, counts, errors)
check("good and refused as it should be", (counts, errors), ({"good": 1, "bad": 1, "tokens": 3}, []))
stress.judge([r2], same, counts, errors)
check("another answer to the same request is an error", len(errors), 1)
r4 = client.Request("/", {})
r4.status, r4.error = 429, "busy"
stress.judge([r4], same, counts, errors)
check("429 without Retry-After is an error", len(errors), 2)
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
