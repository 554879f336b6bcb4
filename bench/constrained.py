#!/usr/bin/env python3
"""What a constraint's mask costs: CPU time of each step (mask, and taking the token) over varied
constraints and random texts, first visits of states included.

    bench/constrained.py TOKENIZER [--model M] [--samples N]

TOKENIZER: the official Llama 3 one for the figures of docs/measured.md. With a model also its decode
step (`drover bench`), and the share."""
import argparse
import json
import subprocess

ap = argparse.ArgumentParser()
ap.add_argument("tokenizer")
ap.add_argument("--model")
ap.add_argument("--samples", type=int, default=30)
ap.add_argument("--tokens", type=int, default=200)
ap.add_argument("--drover", default="./drover")
a = ap.parse_args()

S = {"type": "string"}


def obj(**p):
    return {"type": "object", "properties": p, "required": list(p), "additionalProperties": False}


cases = {
    "any JSON": {"schema": {}},
    "person": {"schema": obj(name=S, age={"type": "integer", "minimum": 0, "maximum": 130},
                             email={"type": "string", "pattern": "^[a-z0-9.]+@[a-z0-9.]+$"})},
    "strings with maxLength": {"schema": obj(a={**S, "maxLength": 40}, b={**S, "minLength": 30, "maxLength": 300},
                                             c={**S, "maxLength": 1000000})},
    "pattern of letters": {"schema": {"type": "array", "items": {**S, "pattern": "^[A-Za-z ]*$"}, "minItems": 3}},
    "pattern searched for": {"schema": {"type": "array", "items": {**S, "pattern": "[0-9]{3}.*end"}, "minItems": 2}},
    "pattern with maxLength": {"schema": {"type": "array", "items": {**S, "pattern": "a.*b", "maxLength": 60}, "minItems": 3}},
    "pattern of \\w, \\s": {"schema": {"type": "array", "items": {**S, "pattern": "^(\\w+\\s?){1,20}$"}, "minItems": 3}},
    "two kinds of string": {"schema": {"type": "array", "minItems": 3, "items":
                            {"anyOf": [{**S, "pattern": "^x"}, {**S, "maxLength": 25}]}}},
    "enum of 2,000": {"schema": {"type": "array", "items": {"enum": ["option %d of many" % (i * 7) for i in range(2000)]},
                                 "minItems": 5, "maxItems": 9}},
    "200 properties": {"schema": {"type": "object", "properties": {"key_%d" % i: {"type": "number"} for i in range(200)}}},
    "tree": {"schema": {"$ref": "#/$defs/n", "$defs": {"n": obj(v=S, kids={"type": "array", "items": {"$ref": "#/$defs/n"}})}}},
    "dates": {"schema": {"type": "array", "items": {**S, "format": "date-time"}, "minItems": 4, "maxItems": 5}},
    "numbers with bounds": {"schema": {"type": "array", "items": {"type": "number", "minimum": -1.5, "maximum": 1234.5}, "minItems": 8}},
    "additional properties": {"schema": {"type": "object", "properties": {"name": S, "names": S}, "additionalProperties": S}},
    "regex: a line": {"regex": "[^\\n]{1,400}"},
    "regex: words": {"regex": "([a-z]+ ){5,40}[a-z]+\\."},
    "GBNF: arithmetic": {"grammar": "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\n"
                         "term ::= ident | num | \"(\" ws expr \")\" ws\nident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*\n"},
    "GBNF: JSON with spaces": {"grammar": "root ::= ws value\nvalue ::= (object | array | string | number | \"true\" | \"null\") ws\n"
                               "object ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws value)*)? \"}\"\n"
                               "array ::= \"[\" ws (value (\",\" ws value)*)? \"]\"\n"
                               "string ::= \"\\\"\" ([^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" [0-9a-fA-F]{4}))* \"\\\"\" ws\n"
                               "number ::= \"-\"? [0-9]{1,15} (\".\" [0-9]+)? ws\nws ::= [ \\n\\t]{0,20}\n"},
    "GBNF: any text": {"grammar": "root ::= .*"},
}
lines = [json.dumps({**c, "samples": a.samples, "tokens": a.tokens, "seed": i}) for i, c in enumerate(cases.values())]
out = subprocess.run([a.drover, "grammar-check", a.tokenizer], input="\n".join(lines) + "\n", capture_output=True,
                     text=True).stdout.split("\n")


def at(v, q):
    return v[min(len(v) - 1, int(q * len(v)))]


every = []
print("%-26s %9s %7s %8s %8s %8s" % ("", "compile", "steps", "p50 us", "p99 us", "max us"))
for name, line in zip(cases, out):
    r = json.loads(line)
    if "error" in r:
        print(name, r["error"])
        continue
    v = sorted(r["mask_us"])
    every += v
    print("%-26s %6.1f ms %7d %8.0f %8.0f %8.0f" % (name, r["compile_ms"], len(v), at(v, .5), at(v, .99), v[-1]))
every.sort()
print("%-26s %9s %7d %8.0f %8.0f %8.0f" % ("all", "", len(every), at(every, .5), at(every, .99), every[-1]))
if a.model:
    r = subprocess.run([a.drover, "bench", a.model, "-p", "16", "-n", "32", "-r", "5", "--json"], capture_output=True, text=True)
    d = json.loads(r.stdout)["decode"][0]["tok_s"]
    step = 1e6 / sorted(d)[len(d) // 2]
    print("decode step of %s: %.0f us; mask p99 %.1f %%" % (a.model, step, 100 * at(every, .99) / step))
