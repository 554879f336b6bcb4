#!/usr/bin/env python3
"""Run cases of requests against servers: tests/e2e/http_cases/*.case. serve.sh calls it.

usage: http_cases.py FILE...      `drover` is in PATH, $T a scratch folder with the model `tiny`

A case is a block of lines up to the next empty line; # starts a comment line:
  server ARGS         from here on: `drover serve ARGS --port 0`, in the file's own folder; outside a case
  file NAME LINE      append a line to a file in that folder; outside a case
  case NAME           what is shown when it fails
  need WHAT           skip unless it is here: smollm2, or a program
  run COMMAND         before the request, for sh, in the file's own folder; $SERVER is the server's pid
  GET /path           the request: method and path (any method)
  head NAME: VALUE    a header of it
  > TEXT              a line of its body (several are joined with newlines)
  raw TEXT            instead: the whole request as it is, \\r \\n \\xNN as in C; several are joined
  status N            expected status (default 200); 0: closed without a reply
  head~ REGEX         some line of the reply's head matches; head! no line does
  < TEXT              the body is this (several are joined). JSON is compared as JSON
  body~ REGEX         the body matches somewhere; body! nowhere
  event TEXT          the next event of the stream: its data, JSON or text. `event NAME: TEXT`, if it has a name
  event ...           any number of events, none too
  log~ REGEX          a line of the server's standard error matches, within a second; log! none does
  save NAME REGEX     what the first group matches in the body is $NAME in later lines of the file
In JSON that is wanted, "*" is any value, "~REGEX" a string that matches, "#" any number, "#A..B" a number from A
to B; an object with "...": "*" may have more members, an array that ends in "..." more elements.
"""
import json, os, re, shlex, shutil, signal, socket, subprocess, sys, time

T = os.environ["T"]
WAIT = 60


class Server:
    def __init__(self, args, folder):
        self.log = open(os.path.join(folder, "server.log"), "w+b")
        self.p = subprocess.Popen(["drover", "serve", *shlex.split(args), "--port", "0"], cwd=folder,
                                  stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.port = None
        end = time.time() + WAIT
        while time.time() < end and self.p.poll() is None:
            m = re.search(r"listening on https?://\S*:(\d+)", self.text())
            if m:
                self.port = int(m[1])
                break
            time.sleep(0.01)
        if not self.port:
            self.stop()
            raise SystemExit(f"FAIL the server did not start: drover serve {args}\n{self.text()}")
        while time.time() < end and self.p.poll() is None:
            if ask(self.port, b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 200:
                return
            time.sleep(0.02)
        raise SystemExit(f"FAIL the server did not get ready: drover serve {args}\n{self.text()}")

    def text(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def stop(self):
        if self.p.poll() is None:
            self.p.terminate()
            try:
                self.p.wait(WAIT)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
                return "it did not end after SIGTERM"
        return None if self.p.returncode == 0 else f"it ended with {self.p.returncode}"


def ask(port, request):
    """Status (0: none), head, body of one request on a connection of its own."""
    s = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    try:
        try:
            s.sendall(request)
        except OSError:
            pass
        data = b""
        try:
            while True:
                part = s.recv(1 << 16)
                if not part:
                    break
                data += part
        except OSError:
            pass
    finally:
        s.close()
    while True:
        head, _, body = data.partition(b"\r\n\r\n")
        head = head.decode("latin-1")
        m = re.match(r"HTTP/1\.[01] (\d+)", head)
        if not m:
            return 0, head, body
        if m[1] != "100":
            break
        data = body
    if re.search(r"(?im)^transfer-encoding: *chunked", head):
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            try:
                n = int(size, 16)
            except ValueError:
                n = 0
            if not n:
                break
            whole, body = whole + body[:n], body[n + 2:]
        body = whole
    return int(m[1]), head, body


def same(want, got, at=""):
    """None, or where they differ."""
    if isinstance(want, str):
        if want == "*":
            return None
        if want.startswith("#"):
            if isinstance(got, bool) or not isinstance(got, (int, float)):
                return f"{at}: a number is wanted, not {json.dumps(got)[:80]}"
            lo, _, hi = want[1:].partition("..")
            if (lo and got < float(lo)) or (hi and got > float(hi)):
                return f"{at}: {got} is not in {want[1:]}"
            return None
        if want.startswith("~"):
            ok = isinstance(got, str) and re.search(want[1:], got, re.S)
            return None if ok else f"{at}: {json.dumps(got)[:200]} does not match {want[1:]}"
    if isinstance(want, dict) and isinstance(got, dict):
        for k, v in want.items():
            if k == "...":
                continue
            if k not in got:
                return f"{at}.{k} is missing"
            bad = same(v, got[k], f"{at}.{k}")
            if bad:
                return bad
        more = [k for k in got if k not in want]
        return f"{at} has more: {', '.join(more)}" if more and "..." not in want else None
    if isinstance(want, list) and isinstance(got, list):
        open_end = bool(want) and want[-1] == "..."
        if open_end:
            want = want[:-1]
        if len(got) < len(want) or (len(got) > len(want) and not open_end):
            return f"{at} has {len(got)} elements, not {len(want)}"
        for i, v in enumerate(want):
            bad = same(v, got[i], f"{at}[{i}]")
            if bad:
                return bad
        return None
    if type(want) is not type(got) and not (isinstance(want, (int, float)) and isinstance(got, (int, float))) \
            or want != got:
        return f"{at}: {json.dumps(got)[:200]}, not {json.dumps(want)[:200]}"
    return None


def same_text(want, got):
    try:
        w = json.loads(want)
    except ValueError:
        return None if want == got else f"{got[:300]!r}, not {want!r}"
    try:
        g = json.loads(got)
    except ValueError:
        return f"no JSON: {got[:300]!r}"
    return same(w, g)


def events(body):
    out = []
    for block in re.split(r"\r?\n\r?\n", body):
        name, data = "", []
        for line in block.splitlines():
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
        if name or data:
            out.append((name, "\n".join(data)))
    return out


def same_events(want, got):
    """Wanted events in order, "..." for any number of others."""
    def fits(w, g):
        name = re.match(r"([a-z_.]+): (.*)", w, re.S)
        if g[0] or name and not w.startswith(("{", "[")):
            if not name or name[1] != g[0]:
                return f"event {g[0] or '(no name)'}, not {w[:100]}"
            w = name[2]
        return same_text(w, g[1])
    i = k = 0
    gap = False
    while k < len(want):
        if want[k] == "...":
            gap, k = True, k + 1
            continue
        if i >= len(got):
            return f"no more events; wanted: {want[k][:200]}"
        bad = fits(want[k], got[i])
        if bad and not gap:
            return f"event {i}: {bad}"
        i += 1
        if not bad:
            gap, k = False, k + 1
    return None if gap or i == len(got) else f"event {i} was not wanted: {got[i]}"


def here(what):
    if what == "smollm2":
        r = subprocess.run(["drover", "list"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return bool(re.search(r"(?m)^smollm2", r.stdout))
    return shutil.which(what) is not None


def raw(text):
    return re.sub(r"\\(r|n|t|\\|x[0-9a-fA-F]{2})",
                  lambda m: {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}.get(m[1]) or chr(int(m[1][1:], 16)),
                  text).encode("latin-1")


class File:
    def __init__(self, path):
        self.name, self.path = os.path.basename(path), path
        self.folder = os.path.join(T, "http", self.name)
        os.makedirs(self.folder)
        self.server, self.args, self.vars = None, None, {}
        self.passed = self.failed = self.skipped = 0
        for model in ("tiny", "tiny2"):
            if os.path.isdir(os.path.join(T, "work", model)):
                os.symlink(os.path.join(T, "work", model), os.path.join(self.folder, model))

    def stop(self):
        if self.server:
            bad = self.server.stop()
            if bad:
                self.fail("the server", [bad], self.server.text()[-2000:])
        self.server = None

    def fail(self, name, bad, more=""):
        self.failed += 1
        print(f"FAIL {self.name}: {name}: " + "; ".join(bad))
        for line in more.splitlines()[:40]:
            print("  " + line[:600])

    def case(self, lines):
        c = {"case": "", "need": [], "run": [], "head": [], ">": [], "raw": [], "status": 200, "<": [], "event": [],
             "save": [], "checks": []}
        request = None
        for line in lines:
            word, _, rest = line.partition(" ")
            for k, v in self.vars.items():
                rest = rest.replace("$" + k, v)
            if word in ("head", ">", "raw", "<", "event", "need", "run", "save"):
                c[word].append(rest)
            elif word == "case":
                c["case"] = rest
            elif word == "status":
                c["status"] = int(rest)
            elif word in ("head~", "head!", "body~", "body!", "log~", "log!"):
                c["checks"].append((word, rest))
            elif re.fullmatch(r"[A-Z]+", word) and rest.startswith("/"):
                request = (word, rest)
            else:
                self.fail(c["case"], [f"cannot read: {line}"])
                return
        for n in c["need"]:
            if not here(n):
                print(f"skip {c['case']}: needs {n}")
                self.skipped += 1
                return
        if not self.server:
            if self.args is None:
                self.fail(c["case"], ["no server line before it"])
                return
            self.server = Server(self.args, self.folder)
        at = len(self.server.text())
        bad = []
        for command in c["run"]:
            r = subprocess.run(command, shell=True, cwd=self.folder, stdin=subprocess.DEVNULL,
                               env={**os.environ, "SERVER": str(self.server.p.pid), "PORT": str(self.server.port)})
            if r.returncode:
                bad.append(f"run {command}: status {r.returncode}")
        status, head, body = None, "", b""
        if c["raw"]:
            status, head, body = ask(self.server.port, b"".join(raw(t) for t in c["raw"]))
        elif request:
            sent = "\n".join(c[">"]).encode()
            lines = [f"{request[0]} {request[1]} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *c["head"]]
            if c[">"]:
                lines.append(f"Content-Length: {len(sent)}")
                if not any(h.lower().startswith("content-type") for h in c["head"]):
                    lines.append("Content-Type: application/json")
            status, head, body = ask(self.server.port, "\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
        text = body.decode("utf-8", "replace")
        if status is not None and status != c["status"]:
            bad.append(f"status {status}, not {c['status']}")
        if body and status and b"\x00" not in body and text.encode() != body and "utf-8" in head.lower():
            bad.append("the body is not UTF-8")
        if c["<"]:
            diff = same_text("\n".join(c["<"]), text)
            if diff:
                bad.append("body " + diff)
        if c["event"]:
            diff = same_events(c["event"], events(text))
            if diff:
                bad.append(diff)
        for what, regex in c["checks"]:
            kind, wanted = what[:-1], what[-1] == "~"
            end = time.time() + 1
            while True:
                where = {"head": head.replace("\r", ""), "body": text, "log": self.server.text()[at:]}[kind]
                hit = re.search(regex, where, re.M if kind != "body" else re.S)
                if kind != "log" or not wanted or hit or time.time() > end:
                    break
                time.sleep(0.02)
            if bool(hit) != wanted:
                bad.append(f"{'nothing' if wanted else 'something'} in the {kind} matches {regex}")
        for s in c["save"]:
            name, _, regex = s.partition(" ")
            m = re.search(regex, text, re.S)
            if m:
                self.vars[name] = m[1]
            else:
                bad.append(f"nothing to save for {regex}")
        if self.server.p.poll() is not None:
            bad.append(f"the server ended with {self.server.p.returncode}")
        if bad:
            self.fail(c["case"], bad, f"{head}\n\n{text[:3000]}\n{self.server.text()[at:][-1500:]}")
        else:
            self.passed += 1
        if self.server.p.poll() is not None:
            self.server = None

    def run(self):
        block = []
        for line in open(self.path, encoding="utf-8").read().split("\n") + [""]:
            if line.startswith("#"):
                continue
            if line.startswith("server "):
                self.stop()
                self.args = line[7:]
            elif line.startswith("file "):
                _, name, text = line.split(" ", 2)
                with open(os.path.join(self.folder, name), "a", encoding="utf-8") as f:
                    f.write(text + "\n")
            elif line.strip():
                block.append(line)
            elif block:
                self.case(block)
                block = []
        self.stop()


def main():
    total = [0, 0, 0]
    for path in sys.argv[1:]:
        f = File(path)
        try:
            f.run()
        except SystemExit as e:
            f.failed += 1
            print(e)
        finally:
            if f.server and f.server.p.poll() is None:
                f.server.p.kill()
        for i, n in enumerate((f.passed, f.failed, f.skipped)):
            total[i] += n
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or not sum(total) else 0


signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sys.exit(main())
