#!/bin/sh
# run.sh - the web page in a browser: make check-page. Needs python3 with venv and Debian's chromium; what is
# not there is installed: Python packages into build/page, chromium by apt where that is allowed.
# Screenshots of every view are left in build/page/shots, to be looked at.
cd "$(dirname "$0")/../.." || exit 2
at=build/page
browser=${CHROMIUM:-$(command -v chromium || command -v chromium-browser)}
if [ -z "$browser" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y -q --no-install-recommends chromium >&2 && browser=$(command -v chromium)
fi
[ -n "$browser" ] || { echo "skip the page: there is no chromium (apt-get install chromium)"; echo "0 passed, 0 failed"; exit 0; }
py=${PAGE_PYTHON:-$at/venv/bin/python}
if [ -z "$PAGE_PYTHON" ] && [ ! -x "$at/venv/bin/playwright" ]; then
    python3 -m venv "$at/venv" && "$at/venv/bin/pip" install -q playwright axe-playwright-python markdown-it-py || {
        echo "skip the page: its Python packages cannot be installed"; echo "0 passed, 0 failed"; exit 0; }
fi
model=${PAGE_MODEL:-smollm2}
"${DROVER:-./drover}" info "$model" >/dev/null 2>&1 || model=
CHROMIUM=$browser exec "$py" tests/page/test_page.py "$at/shots" ${model:+"${DROVER:-./drover}" "$model"}
