#!/bin/sh
# serve.sh - drover serve as its clients see it: requests and replies of http_cases/*.case, then what needs more
# than one request: the command line, signals, TLS, a socket in the file system.
# usage: tests/e2e/serve.sh [FILE.case...]
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/lib/tiny.sh"
have python3 || { skip 'requests: no python3'; finish; }
tiny tiny || { fail 'no model'; finish; }

cases() {
    if python3 "$SRC/tests/e2e/http_cases.py" "$@" >"$T/cases.out" 2>&1; then :; else
        tail -1 "$T/cases.out" | grep -q 'passed,' || { fail "http_cases.py: $(tail -3 "$T/cases.out")"; return; }
    fi
    grep -v 'passed, [0-9]* failed' "$T/cases.out"
    set -- $(sed -n '$s/[^0-9 ]//gp' "$T/cases.out")
    passed=$((passed + ${1:-0})) failed=$((failed + ${2:-0})) skipped=$((skipped + ${3:-0}))
}
if [ $# -gt 0 ]; then cases "$@"; finish; fi
cases "$SRC"/tests/e2e/http_cases/*.case

# ---- the command line
says() {                    # says NAME STATUS REGEX ARGS… : it ends at once, with this sentence
    name=$1 want=$2 regex=$3
    shift 3
    timeout 20 drover serve "$@" >out 2>err </dev/null
    rc=$?
    if [ $rc -eq "$want" ] && grep -qE -- "$regex" err && [ ! -s out ]; then ok; else
        fail "$name: status $rc: $(head -3 err)"
    fi
}
says 'no model' 2 'operand is wanted|operands? (is|are) wanted|more operand'
says 'no such model' 1 'nowhere' nowhere --port 0
says 'an address that others reach, without a key' 1 'no key is asked for' tiny --host 0.0.0.0 --port 0
says 'the same for IPv6' 1 'no key is asked for' tiny --host :: --port 0
says 'a key that is too short' 1 'at least' tiny --port 0 --api-key short
says 'a key file that is not there' 1 'keys.none' tiny --port 0 --api-key-file keys.none
says 'half of TLS' 1 'only one was given' tiny --port 0 --tls-cert x.pem
says 'a port that is none' 2 'port' tiny --port 70000
says 'a file that is no model' 1 'junk.gguf' "$(echo junk >junk.gguf; echo junk.gguf)" --port 0

# ---- servers: start ARGS… sets $pid and $url
start() {
    : >err
    drover serve tiny --port 0 "$@" >out 2>err </dev/null &
    pid=$!
    started "drover serve tiny $*"
}
stop() {                    # stop NAME [SIGNAL] : ends with 0
    kill "-${2:-TERM}" $pid
    wait $pid
    rc=$?
    [ $rc -eq 0 ] && ok || fail "$1: ended with $rc: $(tail -3 err)"
}
get() { curl -s --max-time 20 "$@"; }
have curl || { skip 'servers: no curl'; finish; }

if start; then
    [ "$(get "$url/health")" = '{"status":"ok"}' ] && ok || fail "health: $(get "$url/health")"
    [ ! -s out ] && ok || fail "standard output is not empty"
    timeout 20 drover serve tiny --port "${url##*:}" >out2 2>err2 </dev/null
    [ $? -eq 1 ] && grep -q 'Address already in use' err2 && ok || fail "the same port again: $(cat err2)"
    stop 'SIGTERM'
    grep -q '"path":"/health","status":200' err && ok || fail "no line in the log"
fi
if start --quiet; then
    get "$url/health" >/dev/null
    stop 'SIGINT' INT
    ! grep -q health err && ok || fail "--quiet wrote a line: $(cat err)"
fi
# a log that nobody reads stops nobody
mkfifo log
sleep 60 <log &
reader=$!
drover serve tiny --unix q.sock >log 2>&1 </dev/null &
pid=$!
for i in $(seq 200); do [ -S q.sock ] && break; sleep 0.05; done
long=$(printf '%0250d' 7)
i=0
while [ $i -lt 400 ]; do echo "url=http://localhost/health/$long"; i=$((i + 1)); done >urls
get --unix-socket q.sock -K urls >/dev/null
get --unix-socket q.sock http://localhost/health | grep -q ok && ok || fail 'it waits for who reads its log'
kill $reader
stop 'a log that nobody reads'

# what runs when the end is asked for comes to its end, nothing new begins
if start --grace 60; then
    get -N "$url/v1/completions" -d '{"prompt":"a","max_tokens":300,"stream":true,"temperature":0,"ignore_eos":true}' >stream &
    client=$!
    for i in $(seq 200); do [ -s stream ] && break; sleep 0.02; done
    kill -TERM $pid
    sleep 0.2
    get "$url/health" >late && fail "a new connection was taken while it ends" || ok
    wait $client
    tail -n 3 stream | grep -q 'data: \[DONE\]' && ok || fail "the stream was cut: $(tail -c 300 stream)"
    wait $pid
    [ $? -eq 0 ] && ok || fail "a server that drained ended with $?"
fi
# a second signal ends what runs
if start --grace 60; then
    get -N "$url/v1/completions" -d '{"prompt":"a","max_tokens":2000,"stream":true,"temperature":0,"ignore_eos":true}' >stream &
    client=$!
    for i in $(seq 200); do [ -s stream ] && break; sleep 0.02; done
    kill -TERM $pid
    sleep 0.2
    stop 'a second SIGTERM'
    wait $client
    ! grep -q 'DONE' stream && ok || skip "the reply was complete before the second signal"
fi
if start --unix s.sock; then
    get --unix-socket s.sock http://localhost/ready | grep -q ready && ok || fail 'a socket in the file system'
    stop 'a socket in the file system'
    [ ! -e s.sock ] && ok || fail 'the socket is still there'
fi
if have openssl && openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 >/dev/null 2>&1; then
    if start --tls-cert cert.pem --tls-key key.pem; then
        case $url in https://*) ok ;; *) fail "not https: $url" ;; esac
        get --cacert cert.pem "$url/ready" | grep -q ready && ok || fail "TLS: $(get -v --cacert cert.pem "$url/ready" 2>&1 | tail -3)"
        get --cacert cert.pem -N "$url/v1/completions" -d '{"prompt":"a","max_tokens":20,"stream":true}' | grep -q 'DONE' && ok || fail 'a stream over TLS'
        get "http://${url#https://}/ready" | grep -q ready && fail 'an answer without TLS' || ok
        get --cacert cert.pem --tls-max 1.1 "$url/ready" >/dev/null && fail 'TLS 1.1 was accepted' || ok
        stop 'TLS'
    fi
    says 'a certificate that is none' 1 'TLS cannot start' tiny --port 0 --tls-cert junk.gguf --tls-key key.pem
    says 'another key than the certificate has' 1 'TLS cannot start' tiny --port 0 --tls-cert cert.pem \
        --tls-key "$(openssl genrsa -out other.pem 2048 2>/dev/null; echo other.pem)"
else
    skip 'TLS: no openssl'
fi
finish
