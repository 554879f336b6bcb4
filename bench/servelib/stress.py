"""What a server must bear: an hour of mixed requests with clients that leave, ten times what it can do, and two keys of
which one is greedy. Each of these ends with a table of checks; the exit status is 1 when one fails."""
import os
import random
import re
import statistics
import sys
import time

from peerlib import runner

from . import client, prompts, servers
from .rounds import percentile

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
# the engine's own counts in /metrics
RUNNING, WAITING, KV = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"


class Checks:
    def __init__(self):
        self.rows = []

    def add(self, what, got, good):
        self.rows.append((what, got, good))

    def print(self):
        for what, got, good in self.rows:
            print("%-4s  %-58s %s" % ("ok" if good else "FAIL", what, got))
        sys.stdout.flush()
        return 0 if all(g for _, _, g in self.rows) else 1


def start(a, drover, model, folder, flags=(), name="server"):
    port = servers.free_port()
    argv = drover["argv"] + ["serve", model, "--port", str(port), "-t", str(a.threads)] + list(flags) + drover["flags"]
    # under AddressSanitizer: what was freed is kept for a while only, or memory grows by a quarter of a gigabyte
    asan = os.environ.get("ASAN_OPTIONS", "quarantine_size_mb=4")
    s = servers.Server("drover", argv, port, os.path.join(folder, name + ".log"), {"ASAN_OPTIONS": asan})
    s.wait("/ready", 300)
    return s


def metrics(server, key=None):
    """{name: the sum over its labels}"""
    status, body = client.call(server.port, "GET", "/metrics", key=key)
    if status != 200:
        raise runner.Failed("/metrics answers %d" % status)
    out = {}
    for line in body.decode().splitlines():
        m = re.match(r"([a-zA-Z_:][\w:]*)(?:\{.*\})? ([^ ]+)$", line)
        if m:
            out[m.group(1)] = out.get(m.group(1), 0) + float(m.group(2))
    return out


def idle(server, seconds=30, key=None):
    """Seconds until nothing runs or waits; None: it did not come to that."""
    t = time.monotonic()
    while time.monotonic() - t < seconds:
        m = metrics(server, key)
        if not m[RUNNING] and not m[WAITING]:
            return time.monotonic() - t
        time.sleep(0.01)
    return None


def end(server, checks, grace=60):
    rc = server.stop(grace)
    checks.add("SIGTERM: ends with 0", rc, rc == 0)
    with open(server.logfile, errors="replace") as f:
        said = [x.strip() for x in f if re.search(r"Sanitizer|runtime error|SUMMARY|assert", x)]
    checks.add("no word of a sanitizer or an assertion in its log", said[:1] or "none", not said)


# ---- soak

class Mix:
    """An endless mix of requests, the same for the same seed. Those of tag "same N" are asked again and again."""

    def __init__(self, text, ctx, seed, until):
        self.text, self.ctx, self.until = text, ctx, until
        self.rng = random.Random(seed)
        self.same = [self.body(True) for _ in range(8)]

    def body(self, fixed=False):
        rng = self.rng
        n = int(2 ** rng.uniform(3, 10))
        b = {"model": "", "prompt": self.text.bos + self.text.window(rng, min(n, self.ctx // 2)), "stream": rng.random() < 0.7,
             "max_tokens": rng.randrange(1, 100)}
        if fixed or rng.random() < 0.4:
            b["temperature"] = 0
        else:
            b.update(temperature=0.8, seed=rng.randrange(1 << 30), top_p=0.95)
        if fixed:
            return b
        if rng.random() < 0.2:
            b["logprobs"] = rng.randrange(6)
        if rng.random() < 0.1:
            b["n"] = rng.randrange(2, 4)
        if rng.random() < 0.2:
            b["stop"] = ["\n\n", "the"]
        if rng.random() < 0.1:
            b["presence_penalty"] = 0.5
        if rng.random() < 0.05:
            b["ignore_eos"] = True
        return b

    def chat(self):
        rng = self.rng
        b = {"model": "", "messages": [{"role": "system", "content": "Be brief."},
                                       {"role": "user", "content": rng.choice(["Name three colours.", "Why is the sky blue?",
                                                                               "Say \U0001f600 in words, then 日本語."])}],
             "max_tokens": rng.randrange(1, 80), "stream": rng.random() < 0.7, "temperature": 0.8, "seed": rng.randrange(1 << 30)}
        if rng.random() < 0.3:
            b["response_format"] = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA, "strict": True}}
            b["max_tokens"] = 80            # what the schema asks for has to fit
        elif rng.random() < 0.2:
            b["tools"] = [{"type": "function", "function": {"name": "age", "description": "An age.", "parameters": SCHEMA}}]
        return b

    def bad(self):
        return self.rng.choice([{"model": "", "prompt": "x", "max_tokens": -5}, {"model": "none-of-this-name", "prompt": "x"},
                                {"model": "", "messages": 3}, {"model": "", "prompt": "x", "no_such_field": 1},
                                {"model": "", "prompt": [1 << 40]}, {"model": "", "prompt": [5] * (self.ctx + 5)}])

    def __iter__(self):
        while time.monotonic() < self.until:
            p, rng = self.rng.random(), self.rng
            if p < 0.05:
                b = self.bad()
                yield client.Request("/v1/chat/completions" if "messages" in b else "/v1/completions", b, tag="bad")
            elif p < 0.2:
                i = rng.randrange(len(self.same))
                yield client.Request("/v1/completions", self.same[i], tag="same %d" % i)
            else:
                chat = p < 0.45
                r = client.Request("/v1/chat/completions" if chat else "/v1/completions", self.chat() if chat else self.body())
                if rng.random() < 0.25:
                    r.cancel_after = rng.expovariate(2)
                elif rng.random() < 0.1:
                    r.cancel_events = rng.randrange(1, 10)
                yield r


def context(server):
    """Positions of one request: what /v1/models says."""
    import json
    status, body = client.call(server.port, "GET", "/v1/models")
    m = json.loads(body)["data"][0] if status == 200 else {}
    return m.get("max_model_len") or (m.get("meta") or {}).get("n_ctx_train") or 2048


def judge(over, same, counts, errors):
    """Sort what ended into counts, and what should not have happened into errors."""
    for r in over:
        kind = "bad" if r.tag == "bad" else "cancelled" if r.cancelled else "good" if r.good() else \
            "refused" if r.status == 429 else "error"
        if r.tag == "bad" and not 400 <= r.status < 500 and not r.cancelled:
            kind = "error"
        if kind == "refused" and not (r.retry_after or "").isdigit():
            kind = "error"
        counts[kind] = counts.get(kind, 0) + 1
        counts["tokens"] = counts.get("tokens", 0) + (r.tokens() if r.status == 200 else 0)
        if kind == "error":
            errors.append("%s %s: status %d: %s" % (r.path, r.data[-160:].decode(), r.status, r.error))
        elif kind == "good" and r.tag.startswith("same"):
            old = same.setdefault(r.tag, r.text)
            if old != r.text:
                errors.append("%s: %r, before %r" % (r.tag, r.text[:80], old[:80]))


def soak(a, drover, folder, say):
    rc = 0
    for model in a.model:
        rc |= soak_one(a, drover, model, folder, say)
    return rc


def soak_one(a, drover, model, folder, say):
    checks, counts, errors, same = Checks(), {}, [], {}
    text = prompts.Text(drover["argv"], model, folder)
    # so small a cache that it is full, and its memory touched, within the first quarter
    server = start(a, drover, model, folder, ["--ctx", "2048", "--kv-positions", "8192"])
    try:
        t0 = time.monotonic()
        mix = Mix(text, context(server), 1, t0 + 60 * a.minutes)
        load = client.Load(server.port, keep_text=True)
        rows, last = [], [0]

        def tick():
            now = time.monotonic()
            if now - last[0] < 1:
                return
            last[0] = now
            judge(load.over, same, counts, errors)
            load.over.clear()
            rows.append((now - t0, server.status("RssAnon"), server.files(), server.status("Threads")))
            if len(rows) % 60 == 1:
                say("%5.1f min: %s, %d errors, %d MB, %d files" % ((now - t0) / 60, counts, len(errors), rows[-1][1] // 1024, rows[-1][2]))
            if not server.alive():
                raise runner.Failed("the server ended with %s: %s" % (server.proc.returncode, server.tail()))

        load.run(mix, a.users, 60 * a.minutes + 600, tick)
        judge(load.over, same, counts, errors)
        for e in errors[:10]:
            say("error: " + e)
        checks.add("requests: %s" % ", ".join("%s %d" % x for x in sorted(counts.items())), "in %.1f min" % a.minutes, True)
        checks.add("errors", len(errors), not errors)
        checks.add("of each kind at least some", "", all(counts.get(k) for k in ("good", "bad", "cancelled")))
        checks.add("idle again", idle(server), idle(server) is not None)
        n = len(rows)
        early = statistics.median([r[1] for r in rows[n // 4:n // 2]] or [0])
        late = statistics.median([r[1] for r in rows[3 * n // 4:]] or [0])
        checks.add("own memory, second quarter and last: MB", "%.1f, %.1f" % (early / 1024, late / 1024),
                   late <= 1.02 * early + 4096 or a.minutes < 2)       # the cache is not full so soon
        files = (statistics.median([r[2] for r in rows[n // 4:n // 2]] or [0]), statistics.median([r[2] for r in rows[3 * n // 4:]] or [0]))
        checks.add("open files, second quarter and last", "%g, %g" % files, files[1] <= files[0] + a.users)
        end(server, checks)
    except runner.Failed as e:
        checks.add(str(e), "", False)
    finally:
        server.kill()
    return checks.print()


# ---- overload

def plain(text, rng, gen, key=None, tag=""):
    return client.Request("/v1/completions", {"model": "", "prompt": text.bos + text.window(rng, 64), "max_tokens": gen,
                          "temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}},
                          key=key, tag=tag)


def endless(text, gen, key=None, tag="", seed=1):
    rng = random.Random(seed)
    while True:
        yield plain(text, rng, gen, key, tag)


def overload(a, drover, folder, say):
    rc = 0
    for model in a.model:
        rc |= overload_one(a, drover, model, folder, say)
    return rc


class Waves:
    """A closed loop in an open one: `users` clients of a kind, each of which asks again when it has its answer, or, told to
    come later, when it was told to."""

    def __init__(self, load, source, users):
        self.load, self.source, self.users, self.later, self.seen = load, source, users, [], 0

    def keep(self, tag):
        """Begin what is missing."""
        now = time.monotonic()
        self.later = [t for t in self.later if t > now]
        live = sum(1 for c in self.load.live if c.req.tag == tag)
        for r in self.load.over[self.seen:]:
            if r.tag == tag and r.status == 429:
                self.later.append(now + float(r.retry_after or 1))
        self.seen = len(self.load.over)
        for _ in range(self.users - live - len(self.later)):
            self.load.begin(next(self.source))


def overload_one(a, drover, model, folder, say):
    checks, gen = Checks(), 32
    text = prompts.Text(drover["argv"], model, folder)
    keys = os.path.join(folder, "keys")
    with open(keys, "w") as f:
        f.write("greedy:greedy-key\nmodest:modest-key\n")
    positions = max(4096, 256 * a.users)            # so small a cache that all of it is in use before memory is looked at
    # as many run as there are clients at capacity; half as many may wait, or waiting alone would double the time of a request
    server = start(a, drover, model, folder, ["--ctx", "1024", "--kv-positions", str(positions), "--api-key-file", keys, "--parallel", str(a.users), "--queue", str(max(1, a.users // 2))])
    try:
        load = client.Load(server.port)
        rng = random.Random(5)
        warm = [plain(text, rng, gen, "greedy-key") for _ in range(2 * a.users)]
        load.run(warm, a.users, 600)
        many = max(8 * a.users, positions // 64)
        t = time.monotonic()
        calm = load.run([plain(text, rng, gen, "greedy-key") for _ in range(many)], a.users, 1200)
        rate = sum(r.good() for r in calm) / (time.monotonic() - t)
        bad = [r for r in calm if not r.good() and r.status != 429]     # a burst that finds the places of the other key's share
        checks.add("at capacity (%d clients): requests/s, failures" % a.users, "%.2f, %d" % (rate, len(bad)), not bad)
        whole = [r.ended - r.began for r in calm if r.good()]
        rss = server.status("RssAnon")

        say("%.2f requests/s at capacity; %.0f times that for %g minutes" % (rate, a.factor, a.minutes))
        load = client.Load(server.port)
        over = load.run_at(endless(text, gen, "greedy-key"), a.factor * rate, 60 * a.minutes, 120)
        good = [r for r in over if r.good()]
        refused = [r for r in over if r.status == 429]
        rest = [r for r in over if not r.good() and r.status != 429]
        for r in rest[:5]:
            say("error: status %d: %s" % (r.status, r.error))
        checks.add("overload: requests, admitted, refused", "%d, %d, %d" % (len(over), len(good), len(refused)), bool(refused and good))
        checks.add("neither answered nor 429", len(rest), not rest)
        checks.add("429 without Retry-After", sum(not (r.retry_after or "").isdigit() for r in refused),
                   all((r.retry_after or "").isdigit() for r in refused))
        late = [r.ended - r.began for r in good] or [float("inf")]
        for what, f in (("mean", statistics.fmean), ("p99", lambda v: percentile(v, 99))):
            x, y = f(whole), f(late)
            checks.add("latency of the admitted, %s: s, at capacity, ratio" % what, "%.3f, %.3f, %.2f" % (y, x, y / x), y <= 1.5 * x)
        goodput = len(good) / (60 * a.minutes)
        checks.add("requests/s answered under overload, of capacity", "%.2f, %.2f" % (goodput, goodput / rate), goodput >= 0.85 * rate)
        quick = [r.ended - r.began for r in refused] or [float("inf")]
        checks.add("seconds to a 429, p99", "%.4f" % percentile(quick, 99), percentile(quick, 99) < 1)
        now = server.status("RssAnon")
        checks.add("own memory before and after: MB", "%.1f, %.1f" % (rss / 1024, now / 1024), now <= 1.02 * rss + 4096)

        # two keys: one asks for ten times what there is, the other has as many clients as would use all of it
        load = client.Load(server.port)
        load.over = []
        source, flood = Waves(load, endless(text, gen, "modest-key", "modest", 7), a.users), endless(text, gen, "greedy-key", "greedy", 8)
        t0, n, seconds = time.monotonic(), 0, 60 * a.minutes / 2
        while time.monotonic() - t0 < seconds:
            while n <= (time.monotonic() - t0) * a.factor * rate:
                load.begin(next(flood))
                n += 1
            source.keep("modest")
            load.step(0.02)
        while load.live and time.monotonic() - t0 < seconds + 60:
            load.step(0.1)
        share = {k: sum(r.tokens() for r in load.over if r.good() and r.tag == k) for k in ("greedy", "modest")}
        part = share["modest"] / max(1, sum(share.values()))
        checks.add("two keys, one greedy: tokens of each, the other's part", "%d, %d, %.2f" % (share["greedy"], share["modest"], part), part >= 0.4)
        checks.add("idle again", idle(server, key="modest-key"), idle(server, key="modest-key") is not None)
        end(server, checks)
    except runner.Failed as e:
        checks.add(str(e), "", False)
    finally:
        server.kill()
    return checks.print()


# ---- cancel

def cancel(a, drover, folder, say):
    rc = 0
    for model in a.model:
        rc |= cancel_one(a, drover, model, folder, say)
    return rc


def free_after(server, req, leave, timeout):
    """Begin req, leave when `leave(connection)` says so, and give the seconds until nothing runs."""
    load = client.Load(server.port)
    load.begin(req)
    t = time.monotonic()
    while load.live:
        load.step(0.002)
        c = next(iter(load.live), None)
        if c and leave(c, time.monotonic() - t):
            c.req.cancelled = True
            c.end(None)
    gone = time.monotonic()
    if not req.cancelled:
        raise runner.Failed("the request ended before its client left: %s" % req.error)
    while time.monotonic() - gone < timeout:
        m = metrics(server)
        if not m[RUNNING] and not m[WAITING]:
            return time.monotonic() - gone
        time.sleep(0.001)
    raise runner.Failed("still running %g s after its client left" % timeout)


def cancel_one(a, drover, model, folder, say):
    checks, rng = Checks(), random.Random(3)
    text = prompts.Text(drover["argv"], model, folder)
    server = start(a, drover, model, folder)
    try:
        ctx = context(server)
        long = a.long or ctx - 64
        kinds = [("decoding", 64, lambda c, t: c.req.events >= 1 + len(c.req.data) % 7),
                 ("a prompt of %d" % long, long, None)]
        for what, n, leave in kinds:
            took = []
            ask = lambda gen: client.Request("/v1/completions", {
                "model": "", "prompt": text.bos + text.window(rng, n - len(text.bos)), "max_tokens": gen, "temperature": 0,
                "ignore_eos": True, "stream": True})
            if leave is None:           # how long the prompt takes; its clients leave in the first half, and within half a second
                whole = ask(1)
                client.Load(server.port).run([whole], 1, a.timeout)
                if not whole.good():
                    raise runner.Failed("a prompt of %d: %s" % (n, whole.error))
                most = min(0.5, (whole.ended - whole.began) / 2)
            for k in range(a.tries):
                req = ask(40 if leave is None else ctx - 100)
                wait = rng.uniform(most / 10, most) if leave is None else 0
                took.append(free_after(server, req, leave or (lambda c, t: t > wait), 60))
            checks.add("client gone while %s: seconds until free, p50, p99, most" % what,
                       "%.4f, %.4f, %.4f" % (percentile(took, 50), percentile(took, 99), max(took)), True)
        end(server, checks)
    except runner.Failed as e:
        checks.add(str(e), "", False)
    finally:
        server.kill()
    return checks.print()
