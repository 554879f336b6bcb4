#!/usr/bin/env python3
"""Drive `drover run MODEL` through a pseudo-terminal, for chat.sh.

usage: chat_pty.py MODEL      in an empty folder, drover in PATH
MODEL is random, with a byte-level vocabulary; --logit-bias makes its replies all "A".
"""
import json, os, pty, re, select, signal, subprocess, sys, time

model = sys.argv[1]
passed = failed = 0
SLOW = 20                       # seconds until something that should come is given up


def check(ok, what, more=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAIL", what, more, flush=True)
    return ok


class Terminal:
    def __init__(self, *options, prompt=">>> "):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", HOME=os.getcwd(), LC_ALL="C.UTF-8")
            os.environ.pop("XDG_STATE_HOME", None)
            os.execvp("drover", ["drover", "run", "--template", "llama3", "--temp", "0", *options, model])
        self.seen, self.at, self.prompt = "", 0, prompt
        self.raw = b""
        self.expect(re.escape(prompt))

    def pump(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return None
        self.raw += data
        text = self.raw.decode("utf-8", "replace")
        self.seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r", "", text)
        return bool(data) or None

    def expect(self, regex, seconds=SLOW):
        """Wait for regex in what came since the last match; returns the match or None."""
        end = time.time() + seconds
        while True:
            m = re.compile(regex, re.S).search(self.seen, self.at)
            if m:
                self.at = m.end()
                return m
            if time.time() > end or self.pump(0.2) is None:
                return None

    def send(self, text):
        if text[-1] in "\x03\x04":          # a key, not a paste: nobody is this quick after a prompt
            time.sleep(0.3)
        os.write(self.fd, text.encode())

    def ask(self, text, regex, what):
        self.send(text)
        ok = self.expect(regex)
        return check(ok, what, "" if ok else repr(self.seen[self.at:][-500:])) and self.expect(re.escape(self.prompt))

    def ends(self, what):
        status = self.end()
        check(status == 0, what, "status %s: %r" % (status, self.seen[-200:]))

    def end(self):
        """The exit status; the process is killed when it does not end."""
        for _ in range(int(SLOW / 0.05)):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if self.pump(0.05) is None:
                time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        return "still running"


only_a = ["--logit-bias", "65=1000"]

t = Terminal(*only_a, "-n", "5")
t.ask("hello\n", r"\nAAAAA\n\[prompt \d+ tokens, [\d.]+ tok/s; reply 5 tokens, [\d.]+ tok/s(, \d of \d guesses accepted)?; ended by -n\]", "a reply")
t.ask("again\n", r"\nAAAAA\n\[prompt \d+ tokens \(\d+ kept\)", "the second turn keeps the first")
t.ask("/show\n", r"messages: 4\n.*temp 0.*context: \d+ of \d+", "/show")
t.ask("/set temp 0.5\n", r"\[temp 0.5\]", "/set")
t.ask("/set tepm 1\n", r"did you mean --temp", "/set of an unknown option")
t.ask("/set top-p 7\n", r"from 0 to 1, not 7", "/set out of range")
t.ask("/set\n", r"temp 0.5", "/set alone")
t.ask("/set temp 0\n", r"\[temp 0\]", "/set back")
t.ask("/sytem x\n", r"did you mean /system", "an unknown command")
t.ask("/system be brief\n", r"system prompt set", "/system")
t.ask("/regen\n", r"\nAAAAA\n\[prompt", "/regen")
t.ask("/save talk.json\n", r"4 messages saved in talk.json", "/save")
d = json.load(open("talk.json"))
check(d["system"] == "be brief" and [m["role"] for m in d["messages"]] == ["user", "assistant"] * 2
      and d["messages"][2]["content"] == "again" and d["messages"][1]["content"] == "AAAAA", "saved", str(d))
t.ask("/undo\n", r"taken back", "/undo")
t.ask("/show\n", r"messages: 2\n", "/undo took two")
t.ask("/clear\n", r"a new conversation", "/clear")
t.ask("/undo\n", r"nothing to take back", "/undo of nothing")
t.ask("/load talk.json\n", r"4 messages loaded", "/load")
t.ask("/load nothing.json\n", r"cannot open nothing.json", "/load of nothing")
open("bad.json", "w").write('{"messages": [{"role": "pope", "content": "x"}]}')
t.ask("/load bad.json\n", r"role pope", "/load of a strange role")
t.ask("/save\n", r"/save wants a FILE", "/save without a file")
t.ask("/help\n", r"/undo.*Ctrl-C stops", "/help")
t.send('"""first\n')
check(t.expect(r"\.\.\. "), "a block goes on")
t.send("second\n")
t.expect(r"\.\.\. ")
t.ask('third"""\n', r"\nAAAAA\n\[prompt", "a block")
t.send("one\\\n")
t.expect(r"\.\.\. ")
t.ask("two\n", r"\nAAAAA\n\[prompt", "a backslash")
t.ask("caf\u00e9\u20ac\x7f!\n", r"\nAAAAA\n\[prompt", "editing of UTF-8")
t.ask("/save talk.json\n", r"messages saved", "/save again")
d = json.load(open("talk.json"))["messages"]
check(d[4]["content"] == "first\nsecond\nthird", "lines of a block", repr(d[4]))
check(d[6]["content"] == "one\ntwo", "lines of a backslash", repr(d[6]))
check(d[8]["content"] == "caf\u00e9!", "a character deleted whole", repr(d[8]))
t.send("\x04")
t.ends("Ctrl-D ends with 0")
h = os.path.join(os.getcwd(), ".local/state/drover/history")
check(os.path.exists(h) and "hello" in open(h).read() and os.stat(h).st_mode & 0o77 == 0, "the history file")

t = Terminal(*only_a, "-n", "5")
t.send("\x1b[A\x1b[A")                       # up, up: the line before the last one
t.ask("\n", r"\nAAAAA\n", "a line out of the history")
t.ask("/save talk.json\n", r"saved", "/save")
check(json.load(open("talk.json"))["messages"][0]["content"] == "caf\u00e9!", "which line it was")
t.ask(" /bye\n", r"\nAAAAA\n", "a space makes it a message")
t.send("/bye\n")
t.ends("/bye ends with 0")

t = Terminal(*only_a, "--ctx", "60000", "--no-history")     # goes on until Ctrl-C
t.send("hello\n")
check(t.expect("A{20}"), "a long answer")
t.send("\x03")
check(t.expect(r"ended by Ctrl-C\]"), "Ctrl-C stops the answer", repr(t.seen[-300:]))
t.expect(">>> ")
t.ask("/show\n", r"messages: 2\n", "what was said stays")
t.ask("/set logit-bias 66=2000\n", r"\[logit-bias", "another bias")
t.send("go\n")
check(t.expect("B{5}"), "it goes on after Ctrl-C")
t.send("\x03")
t.expect(r"Ctrl-C\]")
t.expect(">>> ")
t.send("half a li\x03")
check(t.expect(r"Ctrl-C again or Ctrl-D ends"), "Ctrl-C at the prompt", repr(t.seen[-300:]))
t.expect(">>> ")
t.send("\x03")
t.ends("a second Ctrl-C at the prompt ends")

t = Terminal(*only_a, "--ctx", "300", "--no-history")
t.ask("hello\n", r"ended by the full context\]\n\[the context is full: /clear", "a full context stops")
t.ask("more\n", r"the conversation has \d+ tokens, the context 300 positions; the message was taken back", "and refuses more")
t.ask("/undo\n", r"taken back", "/undo makes room")
t.send("\x04")
t.ends("end")

t = Terminal(*only_a, "--ctx", "300", "-n", "400", "--context-full", "shift", "--no-history")
t.ask("hello\n", r"\[the context is full: the oldest \d+ tokens are dropped\].*reply 400 tokens", "shift is announced")
t.ask("more\n", r"the oldest \d+ messages no longer fit.*reply 400 tokens", "old messages are dropped, and it is said")
t.send("\x04")
t.ends("end")

print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
