#!/bin/sh
# deploy.sh - the server where it runs: under a service manager, in its sandbox, in a container's limits, by the
# contracts of SageMaker and Vertex AI; and the files of deploy/.
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/lib/tiny.sh"
have python3 || { skip 'deploy: no python3'; finish; }
have curl || { skip 'deploy: no curl'; finish; }
tiny tiny || { fail 'no model'; finish; }
mkdir files && drover convert tiny files/m.gguf -q || fail 'no GGUF'

# start COMMAND… sets $pid and $url
start() {
    : >err
    "$@" >out 2>err </dev/null &
    pid=$!
    started "$*" || return 1
    for i in $(seq 200); do [ "$(status "$url/ready")" = 200 ] && return 0; sleep 0.05; done
    fail "never ready: $*: $(cat err)"; stop "$1"; return 1
}
stop() {
    kill $pid 2>/dev/null
    wait $pid
    rc=$?
    [ $rc -eq 0 ] && ok || fail "$1: ended with $rc: $(tail -3 err)"
}
get() { curl -s --max-time 20 "$@"; }
status() { get -o /dev/null -w '%{http_code}' "$@"; }
is() { [ "$2" = "$3" ] && ok || fail "$1: \"$2\", not \"$3\""; }
has() { case $2 in *"$3"*) ok ;; *) fail "$1: no \"$3\" in \"$2\"" ;; esac; }
field() { python3 -c 'import json, sys
x = json.load(sys.stdin)
for k in sys.argv[1].split("."): x = x[int(k) if k.isdigit() else k]
print(x if isinstance(x, str) else json.dumps(x))' "$1" 2>/dev/null; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
ASK='{"prompt":"abc","max_tokens":5,"temperature":0,"ignore_eos":true}'
CHAT='{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,"temperature":0}'

# ---- the service manager: what it is told, in order
cat >manager.py <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("notify"); s.settimeout(60)
with open("told", "w", buffering=1) as f:
    while True:
        t = s.recv(4096).decode().replace("\n", " ")
        f.write(t + "\n")
        if t.startswith("STOPPING=1"): break
PY
python3 manager.py & manager=$!
for i in $(seq 100); do [ -S notify ] && break; sleep 0.05; done
echo key-number-one >keys
if start env NOTIFY_SOCKET="$PWD/notify" WATCHDOG_USEC=200000 drover serve tiny --port 0 --api-key-file keys --sandbox; then
    for i in $(seq 100); do [ "$(grep -c WATCHDOG=1 told)" -ge 3 ] && break; sleep 0.05; done
    grep -q '^READY=1' told && ok || fail "not told that it is ready: $(cat told)"
    [ "$(grep -c WATCHDOG=1 told)" -ge 3 ] && ok || fail "no signs of life: $(cat told)"
    is 'a key' "$(status -H 'Authorization: Bearer key-number-one' "$url/v1/models")" 200
    echo key-number-two >keys.new && mv keys.new keys       # another file, in a sandbox
    kill -HUP $pid
    for i in $(seq 100); do grep -q RELOADING told && break; sleep 0.05; done
    grep -q '^RELOADING=1 MONOTONIC_USEC=[0-9]' told && ok || fail "not told of reloading: $(cat told)"
    for i in $(seq 100); do [ "$(status -H 'Authorization: Bearer key-number-two' "$url/v1/models")" = 200 ] && break; sleep 0.05; done
    is 'the new key' "$(status -H 'Authorization: Bearer key-number-two' "$url/v1/models")" 200
    is 'the old key' "$(status -H 'Authorization: Bearer key-number-one' "$url/v1/models")" 401
    stop 'under a manager'
    for i in $(seq 100); do kill -0 $manager 2>/dev/null || break; sleep 0.05; done
    grep -q '^STOPPING=1' told && ok || fail "not told of the end: $(cat told)"
fi
kill $manager 2>/dev/null
NOTIFY_SOCKET=elsewhere drover serve tiny --port 0 2>err && fail 'a socket that is none' || has 'a socket that is none' "$(cat err)" NOTIFY_SOCKET

# ---- the sandbox: all threads are in it, and all is answered as without it
if start drover serve tiny --port 0; then
    want=$(get "$url/v1/completions" -d "$ASK" | field choices.0.text)
    stop 'without a sandbox'
fi
if start drover serve files/m.gguf --port 0 --sandbox --prefix-store store; then
    if [ -r /proc/self/status ] && grep -q Seccomp_filters /proc/self/status; then
        for f in /proc/$pid/task/*/status; do
            grep -q '^Seccomp:	2' "$f" && grep -q '^NoNewPrivs:	1' "$f" || { fail "a thread outside: $f"; break; }
        done
        [ "$(ls /proc/$pid/task | wc -l)" -ge 3 ] && ok || fail 'too few threads looked at'
    fi
    is 'a reply in the sandbox' "$(get "$url/v1/completions" -d "$ASK" | field choices.0.text)" "$want"
    is 'chat in the sandbox' "$(get "$url/v1/chat/completions" -d "$CHAT" | field choices.0.finish_reason)" length
    is 'a grammar in the sandbox' "$(status "$url/v1/completions" -d '{"prompt":"a","max_tokens":9,"grammar":"root ::= \"ab\" [a-z]+"}')" 200
    is 'metrics in the sandbox' "$(status "$url/metrics")" 200
    is 'the page in the sandbox' "$(status "$url/")" 200
    stop 'in the sandbox'
    [ -d store ] && ok || fail 'the store was not made'
fi
if [ "$(id -u)" = 0 ] && have unshare && have setpriv && unshare -m true 2>/dev/null; then
    # as the image does it: another user, nothing writable
    cp "$prog" "$T/prog" && chmod -R a+rX "$T"
    if start unshare -m sh -c 'mount -o remount,bind,ro / 2>/dev/null
            exec setpriv --reuid=65532 --regid=65532 --clear-groups --bounding-set=-all --no-new-privs "$@"' \
            sh "$T/prog" serve files/m.gguf --port 0 --sandbox; then
        is 'another user, nothing writable' "$(get "$url/v1/completions" -d "$ASK" | field choices.0.text)" "$want"
        stop 'another user'
    fi
else
    skip 'another user: needs root'
fi

# ---- SageMaker: a folder with a model, no arguments
p=$(free_port)
if start env SM_MODEL_DIR="$PWD/tiny" SAGEMAKER_BIND_TO_PORT="$p" drover serve; then
    has 'SageMaker' "$(cat err)" 'started by SageMaker'
    is 'its port, all addresses' "$url" "http://0.0.0.0:$p"
    url=http://127.0.0.1:$p
    is '/ping' "$(status "$url/ping")" 200
    is '/invocations: a prompt' "$(get "$url/invocations" -d "$ASK" | field choices.0.text)" "$want"
    is '/invocations: a chat' "$(get "$url/invocations" -d "$CHAT" | field object)" chat.completion
    is '/invocations: texts' "$(get "$url/invocations" -d '{"input":["a","b"]}' | field data.1.object)" embedding
    has '/invocations: a stream' "$(get -N "$url/invocations" -d '{"prompt":"a","max_tokens":2,"stream":true}')" 'data: [DONE]'
    is '/invocations: nothing known' "$(status "$url/invocations" -d '{"inputs":"a"}')" 400
    has '/invocations: nothing known' "$(get "$url/invocations" -d '{"inputs":"a"}')" '\"messages\"'
    is '/invocations: no JSON' "$(status "$url/invocations" -d '{')" 400
    stop 'SageMaker'
fi
if start env SM_MODEL_DIR="$PWD/files" drover serve --port 0 --host 127.0.0.1; then
    is 'a GGUF file in the folder' "$(get "$url/invocations" -d "$ASK" | field choices.0.text)" "$want"
    stop 'SageMaker, a file'
fi
mkdir none two && touch two/a.gguf two/b.gguf
SM_MODEL_DIR=$PWD/none drover serve 2>err; is 'no model there' $? 1; has 'no model there' "$(cat err)" 'holds no model'
SM_MODEL_DIR=$PWD/two drover serve 2>err; is 'two models there' $? 1; has 'two models there' "$(cat err)" 'several GGUF files'
SAGEMAKER_BIND_TO_PORT=x drover serve tiny 2>err; is 'a port that is none' $? 1; has 'a port that is none' "$(cat err)" SAGEMAKER_BIND_TO_PORT

# ---- Vertex AI: its paths, its port, many at once
p=$(free_port)
if start env AIP_HTTP_PORT="$p" AIP_HEALTH_ROUTE=/health AIP_PREDICT_ROUTE=/v1/endpoints/7:predict drover serve tiny; then
    url=http://127.0.0.1:$p
    is 'its health is readiness' "$(get "$url/health" | field status)" ready
    r=$(get "$url/v1/endpoints/7:predict" -d "{\"instances\":[$ASK,{\"prompt\":\"abc\"},$CHAT],
        \"parameters\":{\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true}}")
    is 'a prediction' "$(printf %s "$r" | field predictions.0.choices.0.text)" "$want"
    is 'parameters' "$(printf %s "$r" | field predictions.1.choices.0.text)" "$want"
    is 'a chat among them' "$(printf %s "$r" | field predictions.2.object)" chat.completion
    is "an instance's own count" "$(printf %s "$r" | field predictions.2.usage.completion_tokens)" 4
    many=$(python3 -c 'print(",".join(["{\"prompt\":\"abc\"}"] * 100))')
    r=$(get "$url/v1/endpoints/7:predict" -d "{\"instances\":[$many],\"parameters\":{\"max_tokens\":5,\"temperature\":0,\"ignore_eos\":true}}")
    is 'a hundred' "$(printf %s "$r" | python3 -c 'import json, sys
print(len([p for p in json.load(sys.stdin)["predictions"] if p["choices"][0]["text"] == sys.argv[1]]))' "$want")" 100
    long=$(python3 -c 'print(",".join(["{\"prompt\":\"%s\"}" % ("abc " * 450)] * 8))')    # a reply of megabytes
    r=$(get "$url/v1/endpoints/7:predict" -d "{\"instances\":[$long],\"parameters\":{\"max_tokens\":1,\"echo\":true,\"logprobs\":5}}")
    is 'long ones' "$(printf %s "$r" | python3 -c 'import json, sys
t = sys.stdin.read()
print(len(json.loads(t)["predictions"]), len(t) > 2000000)')" '8 True'
    is 'a request as it is' "$(get "$url/v1/endpoints/7:predict" -d "$ASK" | field choices.0.text)" "$want"
    for bad in '{"instances":[]}' '{"instances":7}' '{"instances":[7]}' '{"instances":[{}]}' \
               "{\"instances\":[$ASK,{\"prompt\":\"a\",\"temperature\":-1}]}" '{"instances":[{"prompt":"a","nosuch":1}]}' \
               '{"instances":[{"prompt":"a","stream":true}]}' '{"instances":[{"prompt":"a"}],"more":1}' \
               '{"instances":[{"prompt":"a"}],"parameters":[]}'; do
        is "$bad" "$(status "$url/v1/endpoints/7:predict" -d "$bad")" 400
    done
    stop 'Vertex'
fi
AIP_HTTP_PORT=99999 drover serve tiny 2>err; is 'a port too large' $? 1; has 'a port too large' "$(cat err)" AIP_HTTP_PORT
AIP_HTTP_PORT=1 AIP_HEALTH_ROUTE=ready drover serve tiny 2>err; is 'no path' $? 1; has 'no path' "$(cat err)" AIP_HEALTH_ROUTE
AIP_HTTP_PORT=1 AIP_STORAGE_URI=gs://b/c drover serve 2>err; is 'a bucket' $? 1; has 'a bucket' "$(cat err)" 'is not fetched'

# ---- the files of deploy/: options that there are, paths that answer, libraries that are installed
drover serve -h >help
for f in drover.service kubernetes.yaml Dockerfile; do
    sed -n '/drover serve\|args:/,/[^\\]$/p; /^ *--grace/p' "$SRC/deploy/$f" | grep -oE -- '--[a-z][a-z-]+' |
        grep -vE -- '--(read-only|cap-drop|security-opt)' | sort -u >options
    [ -s options ] || fail "$f: no options found"
    for o in $(cat options); do grep -q -- "$o" help && ok || fail "$f: drover serve has no $o"; done
done
if start drover serve tiny --port 0; then
    for path in $(sed -n 's/.*httpGet: {path: \([^,]*\),.*/\1/p; s/.*prometheus.io.path: //p' "$SRC/deploy/kubernetes.yaml"); do
        is "kubernetes.yaml: $path" "$(status "$url$path")" 200
    done
    stop 'probes'
fi
if python3 -c 'import yaml' 2>/dev/null; then
    is 'kubernetes.yaml' "$(python3 -c 'import sys, yaml
print(*[d["kind"] for d in yaml.safe_load_all(open(sys.argv[1]))])' "$SRC/deploy/kubernetes.yaml")" 'Deployment Service'
fi
if have systemd-analyze; then
    mkdir -p unit && sed 's|/usr/local/bin/drover|/bin/true|; /^Documentation/d' "$SRC/deploy/drover.service" >unit/drover.service
    v=$(systemd-analyze verify unit/drover.service 2>&1) && [ -z "$v" ] && ok || fail "drover.service: $v"
else
    skip 'drover.service: no systemd-analyze'
fi
if have dpkg && have ldd && [ -f /etc/debian_version ] && grep -q '^12' /etc/debian_version; then
    v=$(python3 - "$SRC/deploy/Dockerfile" "$prog" <<'PY'
import re, subprocess, sys
run = lambda *a: subprocess.run(a, capture_output=True, text=True).stdout
text = open(sys.argv[1]).read().split("FROM debian:12-slim")[1].split("COPY")[0]
there, todo = set(), re.findall(r"\b(?:lib[a-z0-9.+-]+|zlib1g)\b", text)
while todo:                                     # and what these depend on
    p = todo.pop()
    if p in there: continue
    there.add(p)
    for line in re.findall(r"^(?:Pre-)?Depends: (.*)$", run("dpkg", "-s", p), re.M):
        todo += [re.split(r"[ :(|]", d.strip())[0] for d in line.split(",")]
libs = [l.split("/")[-1] for l in re.findall(r"=> (/\S+)", run("ldd", sys.argv[2]))]
for l in libs + ["libmicrohttpd.so.12", "libseccomp.so.2", "libhwloc.so.15", "libcrypto.so.3"]:
    owner = {o.split(":")[0] for o in run("dpkg", "-S", "*/" + l).split("\n") if o}
    if not owner & there and not any(re.match("lib[aut]san|libubsan", o) for o in owner):
        print(l, "is of", *owner)
PY
)
    is "the libraries of Dockerfile" "$v" ''
else
    skip "Dockerfile's libraries: not Debian 12"
fi
finish
