#!/usr/bin/env python3
"""serve_prefix.py - what a prefix that was seen before saves: time to the first token of a prompt the first time, with
the same beginning once more, and after a restart, from disk.
usage: bench/serve_prefix.py MODEL [--tokens 4096] [--runs 5] [--program ./drover] [-- OPTIONS OF SERVE]
Starts and stops the server itself; each run has a beginning of its own. Prints one JSON object."""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ap = argparse.ArgumentParser()
ap.add_argument('model')
ap.add_argument('--tokens', type=int, default=4096)
ap.add_argument('--runs', type=int, default=5)
ap.add_argument('--program', default='./drover')
at = sys.argv.index('--') if '--' in sys.argv else len(sys.argv)
a = ap.parse_args(sys.argv[1:at])
options = sys.argv[at + 1:]
folder = tempfile.mkdtemp(prefix='drover-prefix-')


def start():
    p = subprocess.Popen([a.program, 'serve', a.model, '--port', '0', '--prefix-store', folder, *options],
                         stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    url = None
    for line in p.stderr:
        m = re.search(r'listening on (\S+)', line)
        if m:
            url = m.group(1)
            break
    if not url:
        sys.exit('the server did not start')
    threading.Thread(target=lambda: [None for _ in p.stderr], daemon=True).start()
    for _ in range(6000):
        try:
            if urllib.request.urlopen(url + '/ready', timeout=5).status == 200:
                return p, url
        except OSError:
            time.sleep(0.05)
    sys.exit('the server is not ready')


def stop(p):
    p.send_signal(signal.SIGTERM)
    if p.wait(120):
        sys.exit('the server ended with %d' % p.returncode)


def post(url, path, body):
    return urllib.request.urlopen(urllib.request.Request(url + path, json.dumps(body).encode(),
                                                         {'Content-Type': 'application/json'}), timeout=3600)


def ask(url, ids):
    """Seconds to the first token, and how many of the prompt's tokens were there."""
    t0, first, cached = time.monotonic(), None, None
    with post(url, '/v1/completions', dict(prompt=ids, max_tokens=4, temperature=0, ignore_eos=True, stream=True,
                                           stream_options=dict(include_usage=True))) as r:
        for line in r:
            if not line.startswith(b'data: {'):
                continue
            o = json.loads(line[6:])
            if o['choices'] and first is None:
                first = time.monotonic() - t0
            if o.get('usage'):
                cached = o['usage']['prompt_tokens_details']['cached_tokens']
    return first, cached


def prompt(url, run, end):
    def ids(text):
        return json.load(post(url, '/tokenize', dict(content=text)))['tokens']
    words = ids(' '.join('run %d has word %d in its place' % (run, i * i % 977) for i in range(a.tokens // 4)))
    assert len(words) >= a.tokens, len(words)
    return words[:a.tokens] + ids(' and ends %s here' % end)[-8:]


out = dict(tokens=a.tokens, first=[], again=[], restart=[], cached=[], cached_restart=[])
try:
    p, url = start()
    ask(url, prompt(url, 1000, 'warm')[:64])
    for run in range(a.runs):
        out['first'].append(ask(url, prompt(url, run, 'one'))[0])
        s, n = ask(url, prompt(url, run, 'another'))
        out['again'].append(s)
        out['cached'].append(n)
    stop(p)
    p, url = start()
    ask(url, prompt(url, 1001, 'warm')[:64])
    for run in range(a.runs):
        s, n = ask(url, prompt(url, run, 'third'))
        out['restart'].append(s)
        out['cached_restart'].append(n)
    stop(p)
finally:
    shutil.rmtree(folder)
m = {k: statistics.median(out[k]) for k in ('first', 'again', 'restart')}
out.update(again_of_first=m['again'] / m['first'], restart_of_first=m['restart'] / m['first'], load=os.getloadavg()[0])
print(json.dumps(out))
