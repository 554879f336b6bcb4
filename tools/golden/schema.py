#!/usr/bin/env python3
"""The draft 2020-12 cases of the JSON-Schema-Test-Suite that PyPI's jsonschema source package carries,
against `drover grammar-check` (random tokens) and, with --model, `drover run` at temperature 1.5.

    pip download --no-deps --no-binary :all: jsonschema && tar xf jsonschema-*.tar.gz
    tools/golden/schema.py jsonschema-*/json/tests/draft2020-12 --tokenizer T [--model M] [--samples N]

Needs the Python package jsonschema. Says how many schemas are accepted and why others are refused,
how many outputs are valid, which instances' compact text is accepted. Ends 1 when an output is not
valid or an invalid instance's text is accepted. Nothing of the suite is written anywhere."""
import argparse
import collections
import glob
import json
import os
import re
import subprocess
import sys

import jsonschema

ap = argparse.ArgumentParser()
ap.add_argument("suite")
ap.add_argument("--tokenizer", required=True)
ap.add_argument("--drover", default="./drover")
ap.add_argument("--samples", type=int, default=40)
ap.add_argument("--tokens", type=int, default=120)
ap.add_argument("--model")
ap.add_argument("--seeds", type=int, default=3)
ap.add_argument("-v", action="store_true")
a = ap.parse_args()


def compact(x):
    return json.dumps(x, ensure_ascii=False, separators=(",", ":"))


def valid(schema, x):
    v = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    try:
        return v.is_valid(x)
    except re.error:          # ECMAScript's patterns that Python cannot read are not judged
        return None


groups = []
for path in sorted(glob.glob(os.path.join(a.suite, "*.json"))):
    for g in json.load(open(path)):
        groups.append((os.path.basename(path)[:-5], g))
lines = [compact({"schema": compact(g["schema"]), "samples": a.samples, "tokens": a.tokens, "seed": i,
                  "texts": [compact(t["data"]) for t in g["tests"]]})
         for i, (_, g) in enumerate(groups)]
p = subprocess.run([a.drover, "grammar-check", a.tokenizer], input="\n".join(lines) + "\n",
                   capture_output=True, text=True)
out = [json.loads(x) for x in p.stdout.split("\n") if x]
if len(out) != len(groups):
    sys.exit("drover ended early: %d of %d lines; %s" % (len(out), len(groups), p.stderr))

why = collections.Counter()
by_file = collections.defaultdict(lambda: [0, 0])
n_valid = n_out = took = skipped = missed = refused_ok = wrong = unfit = 0
bad = []
accepted = []
for (name, g), r in zip(groups, out):
    by_file[name][1] += 1
    if "error" in r:
        e = r["error"]
        m = re.search(r'(?:uses the |uses |has an? |names a |gives )(.*)', e)
        reason = (m.group(1) if m else e)[:60]
        if "uses the format" in e:
            reason = '"format": another'
        if "cannot be finished" in e or "nothing can satisfy" in e:
            # unsatisfiable schemas must have no valid instance
            if any(t["valid"] for t in g["tests"]):
                bad.append((name, g["description"], "called unsatisfiable"))
            reason = "nothing satisfies it (no valid instance in the suite either)"
        why[reason] += 1
        if a.v:
            print("refused %s: %s: %s" % (name, g["description"], e))
        continue
    by_file[name][0] += 1
    accepted.append((name, g))
    for s in r["samples"]:
        try:
            ok = s["done"] and valid(g["schema"], json.loads(s["text"]))
        except ValueError:
            ok = False
        if ok is None:
            continue
        n_out += 1
        n_valid += ok
        if not ok:
            bad.append((name, g["description"], s["text"][:200]))
    for t, ok in zip(g["tests"], r["accept"]):
        if t["valid"] and ok:
            took += 1
        elif t["valid"]:
            missed += 1
            if a.v:
                print("valid but not a text of ours: %s: %s: %s" %
                      (name, g["description"], compact(t["data"])))
        elif not ok:
            refused_ok += 1
        elif valid(g["schema"], t["data"]):
            skipped += 1      # the validator itself takes it (formats)
        else:
            wrong += 1
            bad.append((name, g["description"], "invalid instance accepted: " + compact(t["data"])))
if a.model:
    n_run = ok_run = 0
    for name, g in accepted:
        for seed in range(a.seeds):
            r = subprocess.run([a.drover, "run", a.model, "Write one JSON value that fits: " +
                                compact(g["schema"])[:400], "--json", "--temp", "1.5", "--top-p", "1",
                                "-n", "64", "-s", str(seed), "--json-schema", compact(g["schema"])],
                               capture_output=True, text=True)
            n_run += 1
            try:
                d = json.loads(r.stdout)
                good = d["constraint"] == "satisfied" and valid(g["schema"], json.loads(d["text"]))
            except ValueError:
                good = False
            ok_run += good
            if not good:
                bad.append((name, g["description"], "run: " + (r.stdout + r.stderr)[:300]))
    print("outputs of %s at temperature 1.5: %d of %d valid" % (a.model, ok_run, n_run))
print("schemas accepted: %d of %d" % (len(accepted), len(groups)))
for reason, n in why.most_common():
    print("  refused %4d: %s" % (n, reason))
print("by file: " + ", ".join("%s %d/%d" % (k, *v) for k, v in sorted(by_file.items())))
print("random outputs valid: %d of %d" % (n_valid, n_out))
print("valid instances whose compact text is accepted: %d of %d; invalid ones refused: %d of %d"
      % (took, took + missed, refused_ok, refused_ok + wrong))
for b in bad[:40]:
    print("BAD", *b)
sys.exit(bool(bad))
