#!/bin/sh
# run.sh - real clients against drover serve: tests/clients/run.sh [FOLDER] [NAME...]
# FOLDER: where Python packages are put (build/clients). NAMEs: which of tests/clients/*_client.py; all without.
# A model is wanted: $MODEL, or smollm2 that `drover get` has. MODEL's server is started here and ended here.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${1:-$root/build/clients}
[ $# -gt 0 ] && shift
drover=${DROVER:-$root/drover} model=${MODEL:-smollm2}
fail=0 pass=0
python=${PYTHON:-$folder/venv/bin/python}
if [ ! -x "$python" ]; then
    mkdir -p "$folder" && python3 -m venv "$folder/venv" ||
        { echo "skip: needs python3 with venv"; exit 0; }
fi
names=${*:-$(cd "$here" && ls ./*_client.py | sed 's|^\./||; s|_client\.py$||')}
log=$(mktemp) port=${PORT:-7590}
"$drover" serve "$model" -p "$port" -t "${THREADS:-1}" -c 4096 --api-key test:secret-key -q 2>"$log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -f "$log"' EXIT
for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$port/ready" >/dev/null && break
    kill -0 $server 2>/dev/null || { cat "$log"; echo "0 passed, 1 failed"; exit 1; }
    sleep 0.1
done
for name in $names; do
    needs=$(sed -n 's/^# needs: //p' "$here/${name}_client.py")
    # shellcheck disable=SC2086  # a list of packages
    if ! "$python" -c "import importlib.util as u, sys
sys.exit(any(not u.find_spec(n.split('=')[0].replace('-', '_')) for n in '$needs'.split()))"; then
        "$python" -m pip install -q $needs || { echo "skip $name: no $needs"; continue; }
    fi
    if "$python" "$here/${name}_client.py" "http://127.0.0.1:$port" secret-key; then pass=$((pass + 1))
    else fail=$((fail + 1)); fi
    kill -0 $server 2>/dev/null || { cat "$log"; echo "the server ended during $name"; fail=$((fail + 1)); break; }
done
echo "$pass passed, $fail failed"
[ "$fail" -eq 0 ] && [ "$pass" -gt 0 ]
