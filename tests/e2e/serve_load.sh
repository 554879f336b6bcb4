#!/bin/sh
# serve_load.sh - bench/serve from the command line: its client and arithmetic (serve_load_test.py), and whole runs of it
# with drover on a tiny model beside a program that answers as llama-server does.
. "$(dirname "$0")/../lib/e2e.sh"
have python3 || { skip "python3 is not here"; finish; }
. "$SRC/tests/lib/tiny.sh"
serve() { python3 "$SRC/bench/serve" "$@"; }
export DROVER_CACHE="$T/cache"

python3 "$SRC/tests/e2e/serve_load_test.py" "$SRC" >log || cat log
passed=$(sed -n 's/^\([0-9]*\) passed.*/\1/p' log | awk '{n+=$1} END {print n+0}')
failed=$(sed -n 's/.* \([0-9]*\) failed$/\1/p' log | awk '{n+=$1} END {print n+(NR==0)}')

# a program that answers as llama-server does: a token each 20 ms, the first after 100
mkdir peer
cat >peer/llama-server <<'EOF'
#!/usr/bin/env python3
import http.server, json, sys, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def do_POST(self):
        q = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        n = q["max_tokens"] - ("--cheat" in sys.argv)
        for i in range(n):
            time.sleep(0.02 if i else 0.1)
            self.say({"choices": [{"text": "x"}]})
        self.say({"choices": [], "usage": {"completion_tokens": n, "prompt_tokens": len(q["prompt"])}})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True
    def say(self, d):
        self.wfile.write(b"data: " + json.dumps(d).encode() + b"\n\n")
        self.wfile.flush()
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 128
S(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), H).serve_forever()
EOF
chmod +x peer/llama-server
tiny base tiny,vocab=512,ctx=2048 --type F32 || { fail "no model"; finish; }
small="--model base --concurrency 4 --prompt 32 --gen 8 --prefix 64 --tail 16 --waves 2 --limit 1000 --others 1 -t 1 --drover ./drover"

# like WHAT REGEX FILE
like() { if grep -qE -- "$2" "$3"; then ok; else fail "$1: nothing like $2"; head -40 "$3"; fi; }
if serve $small --rounds 2 --peer-dir peer --out a.json >out 2>err; then ok; else fail "a run: $(tail -5 err)"; fi
like "throughput" '^base +1 +4 users, 32 in, 8 out +[0-9].*\] +[0-9.]+ \[.*\] +[0-9.]+ \[.* 2 of 2$' out
like "a shared prefix" '^base +1 +4 users, 64 shared \+ 16 in, 8 out +[0-9].* 2 of 2$' out
like "overhead" '^base +1 +1 user, 32 in, 8 out +[0-9].*\] +[0-9].*\] +[0-9.]+ \[.* 2 of 2$' out
python3 - a.json <<'EOF' && ok || fail "the results file"
import json, sys
r = json.load(open(sys.argv[1]))
assert list(r["programs"]) == ["drover", "llama-server", "bench"] and len(r["rounds"]) == 6
for x in r["rounds"]:
    assert not [y for y in x["runs"] if "error" in y], x
    n = x["job"]["concurrency"]
    order = ["drover", "llama-server", "bench"][:3 if n == 1 else 2]
    k = x["turn"] % len(order)
    assert [y["program"] for y in x["runs"]] == order[k:] + order[:k], "turned"
    peer = [y for y in x["runs"] if y["program"] == "llama-server"][0]["values"]
    assert 0.25 * n * 8 / 0.24 < peer["tok_s"] <= n * 8 / 0.24, peer
    assert 0.1 <= peer["first_mean"] < 0.5 and 0.019 <= peer["gap_p50"] < 0.1, peer
    ours = [y for y in x["runs"] if y["program"] == "drover"][0]
    if x["job"]["prefix"]:
        assert ours["cached"] >= 3 * 64, ours["cached"]
EOF
if serve show a.json --limit 1000 --others 1 >again && cmp -s out again; then ok; else fail "show: $(diff out again | head)"; fi
printf '# t\n\n<!-- results of a.json: bench/serve render writes what follows -->\n<!-- end of results -->\n' >page.md
if serve render a.json --page page.md --check >log 2>&1; then fail "render --check of an old page"; else ok; fi
serve render a.json --page page.md --others 1 >log
like "render" '^\| base \| 1 \| 4 users, 32 in, 8 out \| [0-9]' page.md
if serve render a.json --page page.md --others 1 --check; then ok; else fail "render --check of a new page"; fi
if ls "$SRC"/docs/benchmarks/serve/*.json >/dev/null 2>&1; then
    if serve render "$SRC"/docs/benchmarks/serve/*.json --check; then ok; else fail "docs/benchmarks.md is not what its results say"; fi
fi

# a program that gives fewer tokens than were asked for has no figures
serve $small --rounds 1 --peer-dir peer --peer-flags=--cheat --no-overhead --prefix 0 --out b.json >out 2>err
like "a peer that cheats" 'llama-server: .*tokens came, not' out
# no round begins that would not end in time
serve $small --rounds 3 --peers none --no-overhead --prefix 0 --seconds 0.001 --out c.json >out 2>err
if [ ! -e c.json ] || [ "$(grep -c '"turn"' c.json)" -le 1 ]; then ok; else fail "--seconds"; fi

# what a server must bear, for seconds
if serve soak --model base --minutes 0.15 --users 4 -t 1 --drover ./drover >out 2>err; then ok; else fail "soak: $(grep FAIL out; tail -3 err)"; fi
if serve cancel --model base --tries 3 -t 1 --drover ./drover >out 2>err; then ok; else fail "cancel: $(grep FAIL out; tail -3 err)"; fi

# mistakes: refuse WHAT STATUS REGEX ARGUMENT...
refuse() {
    what=$1 status=$2 regex=$3; shift 3
    serve "$@" >out 2>err; rc=$?
    if [ $rc -eq "$status" ] && grep -qE -- "$regex" err && ! grep -q Traceback err; then ok
    else fail "$what: status $rc: $(cat err)"; fi
}
refuse "no model" 2 'required: --model' run
refuse "no such file" 1 'none.gguf is no file' run --model none.gguf
refuse "no such drover" 1 'no program at ./none: run make first' run --model base --drover ./none
refuse "no such peer" 1 'no program at .*/nowhere/llama-server' run --model base --peer-dir nowhere --drover ./drover
refuse "no number" 2 'x.* is not a (list of )?number' run --model base --concurrency x
refuse "a file that is no results" 1 'serve: ' show page.md
finish
