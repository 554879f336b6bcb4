"""Many requests at once over plain sockets, from one thread: what a client sees, when, and for how much of its own time.

A Request is made before the clock starts; `Load.run` keeps a number of them under way (a closed loop), or begins each at
its own time (an open one). Nothing here knows which program answers: the form is OpenAI's, streamed or whole."""
import errno
import heapq
import json
import selectors
import socket
import time

SENDING, HEAD, BODY, ENDED = range(4)


class Request:
    """One request and all that was seen of its answer. Times are of time.monotonic()."""

    def __init__(self, path, body, key=None, tag="", cancel_after=None, cancel_events=None):
        self.data = json.dumps(body).encode()
        self.path, self.key, self.tag = path, key, tag
        self.cancel_after, self.cancel_events = cancel_after, cancel_events     # seconds; events with text
        self.stream = bool(body.get("stream"))
        self.status = 0
        self.retry_after = None
        self.began = self.first = self.last = self.ended = None     # sent; first text; last text; all of it
        self.gaps = []                  # seconds between events with text
        self.events = 0                 # with text
        self.done = False               # streamed: [DONE] was there; else the body was whole
        self.usage = None
        self.error = None
        self.cancelled = False
        self.text = ""

    def wire(self, host):
        head = "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nConnection: close\r\n" % (self.path, host)
        if self.key:
            head += "Authorization: Bearer %s\r\n" % self.key
        return (head + "Content-Length: %d\r\n\r\n" % len(self.data)).encode() + self.data

    def tokens(self):
        """Generated ids by the server's own count, or else events."""
        return self.usage["completion_tokens"] if self.usage and "completion_tokens" in self.usage else self.events

    def good(self):
        return self.status == 200 and self.done and not self.error and not self.cancelled


class Conn:
    """The bytes of one Request."""

    def __init__(self, load, req):
        self.load, self.req = load, req
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.out, self.state = req.wire(load.host), SENDING
        self.buf, self.line = b"", b""
        self.chunked, self.length, self.left = False, None, 0
        self.whole = []
        req.began = time.monotonic()
        e = self.sock.connect_ex(load.address)
        if e not in (0, errno.EINPROGRESS):
            self.end("connect: " + errno.errorcode.get(e, str(e)))
            return
        load.sel.register(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def ready(self, mask):
        try:
            if mask & selectors.EVENT_WRITE and self.out:
                self.out = self.out[self.sock.send(self.out):]
                if not self.out:
                    self.load.sel.modify(self.sock, selectors.EVENT_READ, self)
            if mask & selectors.EVENT_READ:
                data = self.sock.recv(65536)
                now = time.monotonic()
                if data:
                    self.take(data, now)
                else:
                    self.closed()
        except BlockingIOError:
            pass
        except (OSError, ValueError, KeyError, IndexError, TypeError) as e:
            self.end("%s: %s" % (type(e).__name__, e))

    def closed(self):
        if self.state == BODY and self.length is None and not self.chunked:
            self.finish()
        else:
            self.end("the connection ended in the %s" % ("head" if self.state != BODY else "body"))

    def take(self, data, now):
        self.buf += data
        if self.state in (SENDING, HEAD):
            at = self.buf.find(b"\r\n\r\n")
            if at < 0:
                return
            head, self.buf = self.buf[:at].decode("latin-1"), self.buf[at + 4:]
            lines = head.split("\r\n")
            self.req.status = int(lines[0].split()[1])
            for h in lines[1:]:
                name, _, value = h.partition(":")
                name, value = name.strip().lower(), value.strip()
                if name == "transfer-encoding" and value.lower() == "chunked":
                    self.chunked = True
                elif name == "content-length":
                    self.length = self.left = int(value)
                elif name == "retry-after":
                    self.req.retry_after = value
            self.state = BODY
        if self.chunked:
            while self.state == BODY and self.chunk(now):
                pass
        else:
            got, self.buf = self.buf, b""
            self.body(got, now)
            if self.length is not None:
                self.left -= len(got)
                if self.left <= 0 and self.state == BODY:
                    self.finish()

    def chunk(self, now):
        """One chunk out of buf; False: it is not all there."""
        at = self.buf.find(b"\r\n")
        if at < 0:
            return False
        n = int(self.buf[:at].split(b";")[0], 16)
        if len(self.buf) < at + 2 + n + 2:
            return False
        data, self.buf = self.buf[at + 2:at + 2 + n], self.buf[at + 4 + n:]
        if n == 0:
            self.finish()
            return False
        self.body(data, now)
        return True

    def body(self, data, now):
        if not self.req.stream or self.req.status != 200:
            self.whole.append(data)
            return
        lines = (self.line + data).split(b"\n")
        self.line = lines.pop()
        for s in lines:
            if s.startswith(b"data:"):
                self.event(s[5:].strip(), now)
                if self.state == ENDED:
                    return

    def event(self, s, now):
        r = self.req
        if s == b"[DONE]":
            r.done = True
            return
        d = json.loads(s)
        if "error" in d:
            r.error = json.dumps(d["error"])
            return
        if d.get("usage"):
            r.usage = d["usage"]
        got = False
        for c in d.get("choices") or ():
            text = c.get("text")
            if text is None:
                text = (c.get("delta") or {}).get("content")
            if text:
                got = True
                if self.load.keep_text:
                    r.text += text
        if got:
            r.events += 1
            if r.first is None:
                r.first = now
            else:
                r.gaps.append(now - r.last)
            r.last = now
            if r.cancel_events is not None and r.events >= r.cancel_events:
                r.cancelled = True
                self.end(None)

    def finish(self):
        r = self.req
        if not (r.stream and r.status == 200):
            try:
                d = json.loads(b"".join(self.whole))
                r.done = True
                r.usage = d.get("usage")
                if r.status != 200:
                    e = d.get("error")
                    r.error = e.get("message") if isinstance(e, dict) else str(e or d)
                elif d.get("choices"):
                    c = d["choices"][0]
                    r.text = c.get("text") or (c.get("message") or {}).get("content") or ""
            except ValueError:
                r.error = "not JSON: %r" % b"".join(self.whole)[:80]
            r.first = r.last = time.monotonic()
        elif not r.done and not r.error:
            r.error = "the stream ended without [DONE]"
        self.end(r.error)

    def end(self, error):
        if self.state == ENDED:
            return
        self.state = ENDED
        if error and not self.req.error:
            self.req.error = error
        self.req.ended = time.monotonic()
        try:
            self.load.sel.unregister(self.sock)
        except (KeyError, ValueError):
            pass
        self.sock.close()
        self.load.left(self)


class Load:
    def __init__(self, port, host="127.0.0.1", keep_text=False):
        self.address, self.host, self.keep_text = (host, port), "%s:%d" % (host, port), keep_text
        self.sel = selectors.DefaultSelector()
        self.live, self.over = set(), []
        self.timers = []

    def left(self, conn):
        self.live.discard(conn)
        self.over.append(conn.req)

    def begin(self, req):
        c = Conn(self, req)
        if c.state != ENDED:
            self.live.add(c)
            if req.cancel_after is not None:
                heapq.heappush(self.timers, (req.began + req.cancel_after, id(c), c))

    def step(self, wait):
        """Wait at most so long for something to happen, and deal with it."""
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            c = heapq.heappop(self.timers)[2]
            if c.state != ENDED:
                c.req.cancelled = True
                c.end(None)
        if self.timers:
            wait = max(0, min(wait, self.timers[0][0] - now))
        for key, mask in self.sel.select(wait):
            if key.data.state != ENDED:
                key.data.ready(mask)

    def run(self, requests, concurrency, timeout, tick=None):
        """A closed loop: `concurrency` of the requests (an iterable) under way until there are no more. Those still
        under way when the time is over are ended as errors. tick: called about every tenth of a second."""
        it, more, until, last = iter(requests), True, time.monotonic() + timeout, 0
        self.over = []
        while True:
            while more and len(self.live) < concurrency:
                try:
                    self.begin(next(it))
                except StopIteration:
                    more = False
            if not self.live and not more:
                return self.over
            self.step(0.1)
            now = time.monotonic()
            if tick and now - last >= 0.1:
                last = now
                tick()
            if now > until:
                more = False
                for c in list(self.live):
                    c.end("still under way after %g s" % timeout)

    def run_at(self, requests, rate, seconds, grace, tick=None):
        """An open loop: the next request begins each 1/rate seconds, whatever became of those before, for so many seconds;
        then `grace` seconds for those under way."""
        it, t0, n, last = iter(requests), time.monotonic(), 0, 0
        self.over = []
        while True:
            now = time.monotonic()
            while now - t0 < seconds and n <= (now - t0) * rate:
                self.begin(next(it))
                n += 1
            if now - t0 >= seconds and not self.live:
                return self.over
            if now - t0 > seconds + grace:
                for c in list(self.live):
                    c.end("still under way %g s after the last began" % grace)
            self.step(max(0, min(0.05, t0 + n / rate - now)))
            if tick and now - last >= 0.1:
                last = now
                tick()


def call(port, method, path, body=None, key=None, timeout=30, host="127.0.0.1"):
    """(status, bytes) of one plain exchange; OSError when there is no answer."""
    import http.client
    c = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        head = {"Authorization": "Bearer " + key} if key else {}
        if body is not None:
            head["Content-Type"] = "application/json"
        c.request(method, path, None if body is None else json.dumps(body), head)
        r = c.getresponse()
        return r.status, r.read()
    except http.client.HTTPException as e:
        raise OSError("%s: %s" % (type(e).__name__, e))
    finally:
        c.close()
