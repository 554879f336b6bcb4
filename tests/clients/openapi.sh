#!/bin/sh
# openapi.sh - drover serve against its own description: schemathesis makes requests of docs/openapi.yaml, right and
# wrong ones, and holds each reply to it. tests/clients/openapi.sh [FOLDER [EXAMPLES]]
# FOLDER: where Python packages are put (build/clients); EXAMPLES of each operation (30). The model is a random one.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${1:-$root/build/clients} examples=${2:-30}
drover=${DROVER:-$root/drover}
case $drover in /*) ;; *) drover=$PWD/$drover ;; esac
python=${PYTHON:-$folder/venv/bin/python}
if [ ! -x "$python" ]; then
    mkdir -p "$folder" && python3 -m venv "$folder/venv" || { echo "skip: needs python3 with venv"; exit 0; }
fi
"$python" -c 'import schemathesis, yaml, jsonschema' 2>/dev/null || "$python" -m pip install -q schemathesis pyyaml ||
    { echo "skip: no schemathesis"; exit 0; }
tmp=$(mktemp -d) port=${PORT:-7591}
server=
trap '[ -n "$server" ] && kill $server 2>/dev/null; rm -rf "$tmp"' EXIT
mkdir "$tmp/bin" && ln -s "$drover" "$tmp/bin/drover" && PATH=$tmp/bin:$PATH && cd "$tmp" || exit 1
. "$root/tests/lib/tiny.sh"
tiny tiny "tiny,vocab=512,ctx=512" || { echo "0 passed, 1 failed"; exit 1; }
drover serve tiny -p "$port" -t "${THREADS:-1}" -c 512 --api-key test:secret-key -q 2>"$tmp/log" &
server=$!
for _ in $(seq 100); do curl -sf "http://127.0.0.1:$port/ready" >/dev/null && break; sleep 0.1; done
failed=0
# the description that is served is the one of docs/, and has the server's fields: neither more nor fewer
curl -sf "http://127.0.0.1:$port/openapi.yaml" | cmp - "$root/docs/openapi.yaml" || failed=$((failed + 1))
"$python" "$here/openapi_fields.py" "http://127.0.0.1:$port" secret-key "$root" || failed=$((failed + 1))
"$python" -m schemathesis.cli run "$root/docs/openapi.yaml" --url "http://127.0.0.1:$port" -H "Authorization: Bearer secret-key" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,negative_data_rejection \
    --max-examples "$examples" --workers 2 --request-timeout 60 --seed 1 --no-color >"$tmp/out" 2>&1 || failed=$((failed + 1))
if [ $failed -gt 0 ]; then cat "$tmp/out"; else sed -n '/SUMMARY/,$p' "$tmp/out"; fi
kill -0 $server 2>/dev/null || { cat "$tmp/log"; echo "the server ended"; failed=$((failed + 1)); }
echo "openapi: $((3 - (failed < 3 ? failed : 3))) passed, $failed failed"
[ $failed -eq 0 ]
