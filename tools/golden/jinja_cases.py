#!/usr/bin/env python3
"""Write tests/golden/data/jinja.json: small templates of our own, one feature each, and what jinja2
makes of them as transformers sets it up.

    tools/golden/jinja_cases.py > tests/golden/data/jinja.json
    tools/golden/jinja_cases.py DROVER          compare instead of writing

Needs transformers and jinja2; their versions go into jinja.txt beside it.
"""
import json
import os
import sys

import jinja2
import transformers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import jinja as ref                                                  # noqa: E402

VARS = {
    "x": 7, "y": -3, "f": 2.5, "s": "héllo World", "e": "", "n": None, "t": True, "z": 0,
    "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "d": {"b": 1, "a": [1, {"k": "v"}], "items": 5, "C": None},
    "ms": [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yo", "n": 2},
           {"role": "user", "content": "a\nb"}],
    "big": 123456789012345678901234567890, "nest": [[1, [2, 3]], [4, []]], "u": "日本語 ßŉ 🦙",
}

# each line of EXPR is a template {{ line }}
EXPR = r"""
x + y, x - y, x * y, x / y, x // y, x % y, x ** 2, 2 ** -1, -x ** 2, -2 ** 2, 7.5 // 2, -7.5 // 2, -7.5 % 2, 7 % -3, -7 // 2
1_000, 1e3, 1.5e-7, 1e16, 123456789.125, 0.1 + 0.2, 1e22, 5e-324, 1.0, -0.0, 3.0 * 2, 10 / 5, 1e15, 1e17
true + 1, true == 1, 1 == 1.0, "1" == 1, none == false, [1] == [1.0], (1,) == [1], {"a": 1} == {"a": 1.0}, nope == other
1 < 2 < 3, 1 < 3 < 2, 3 > 2 > 1 > 0, 1 <= 1 != 2, "a" < "b", [1, 2] < [1, 3], (1, 2) < (1, 2, 0)
1 in l, 9 not in l, "b" in d, "ell" in s, "éllo" in s, "" in "", 1 in (1,), "a" in {"a": 1}.keys(), 1 in d.values(), not 1 in l
x and y, z and y, z or y, e or "alt", not e, not l, x if t else y, x if z, (x if z) is defined, n or none or 0
"a" ~ 1 ~ none ~ true ~ 1.5 ~ [1, "q"], 1 ~ 2 + 3 ~ 4, "a" "b" 'c'
"%s-%d-%5.2f-%x|%5s|%-5s|%05d|%+d|%%|%r" % ("a", 3, 2.0, 255, "r", "l", 42, 5, "q"), "%s" % "one", "%s" % [1, 2], "%(a)s %(b)03d" % {"a": 1, "b": 2}
"{} {}".format(1, 2), "{1} {0} {x} {{}}".format(1, 2, x=3)
"{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{!r}|{:x}|{:*^7}|{:+d}|{:8.3f}|{:.1%}".format("a", "b", "c", 42, 3.14159, 1234567, "q", 255, "m", 3, 2.5, 0.256)
"{d[b]} {m[0][role]} {s}".format(d=d, m=ms, s=s)
l[0], l[-1], l[9] is defined, l[1:], l[:-1], l[::-1], l[::2], l[-2:], l[5:], l[2:0:-1], l[:100], w[1:3], l[0:0], (1, 2, 3)[1:]
s[0], s[1], s[-1], s[1:4], s[::-1], s[::2], s[-3:], s[3:1], u[0], u[3:5], u[-1], u[::-1], s[99] is defined, u[1:-1], u | length
d.b, d["b"], d.a[1].k, d.nope is defined, d["nope"] is defined, d.items is callable, d["items"], d.get("b"), d.get("q"), d.get("q", 4), d.get("C", 9), d.a.0
d.keys() | list, d.values() | list, d.items() | list, d | list, d | length, d.items(), d.keys(), d.values()
l, w, d, n, t, f, s, nest, (1,), (), [], {}, (1, "a"), {"k": none, 1: 2.0, true: "x", (1, 2): []}
["it's", 'say "x"', "both ' and \"", "tab\t", "nl\n", "back\\", "é", "\x7f", "\u200b", "\x00", "\u2028", "🦙"]
s | upper, s | lower, s | title, s | capitalize, s | length, s | reverse, s | first, s | last, s | list, s | string, u | upper, u | lower, u | title, u.title(), u.capitalize()
"they're bill's" | title, "they're bill's".title(), "ΑΣ ΣΑΣ Σ".lower(), "İ" | lower, "ǆ" | title, "hELLO wORLD" | capitalize, "foo-bar (baz [q] {z} <t> x" | title
"  a b  " | trim, "xxaxx" | trim("x"), "  a ".strip(), "--a--".lstrip("-"), "--a--".rstrip("-"), "\u00a0\u3000a\u2003".strip(), "abcba".strip("ab"), "éaé".strip("é")
"a,b,,c".split(","), " a  b c ".split(), "a,b,c".split(",", 1), "a,b,c".rsplit(",", 1), "a b c d".split(none, 2), "a b  c d ".rsplit(none, 2), "".split(), "".split(","), "abc".split("b")[0], "a<x>b<x>c".split("<x>")[-1], "a\nb\r\nc\x0bd".splitlines(), "a\n".splitlines(true)
"a-b-c".partition("-"), "a-b-c".rpartition("-"), "abc".partition("x"), "abc".rpartition("x"), "abc".startswith("ab"), "abc".endswith(("x", "bc")), "abc".startswith("b", 1), "abc".removeprefix("a"), "abc".removesuffix("c"), "abc".removeprefix("x")
"hello".find("l"), "hello".rfind("l"), "hello".find("z"), "héllo".find("l"), "hello".index("l"), "hello".count("l"), "aaa".count("aa"), "abc".count(""), "hello".find("l", 3), "hello".find("", 9), "hello".rfind("")
"a".isalpha(), "1".isdigit(), "a1".isalnum(), " ".isspace(), "".isalpha(), "ab".islower(), "AB1".isupper(), "1".islower(), "½".isnumeric(), "é".isascii()
"aXbX".replace("X", "-"), "aXbX".replace("X", "-", 1), "aaa" | replace("a", "b", 2), "abc" | replace("", "-"), "abc".replace("b", ""), 12321 | replace(2, 9), "é" | replace("é", "ee")
"-".join(["a", "b"]), [1, 2] | join, [1, "a", none] | join("-"), ms | join("|", attribute="role"), "abc" | join("."), "a".ljust(3) ~ "|", "a".rjust(3, "*"), "a".center(4) ~ "|", "-5".zfill(4), "ab" | center(7) ~ "|"
n | default("D"), nope | default("D"), nope | default, e | default("D"), e | default("D", true), z | d(5, boolean=true), nope is undefined, d.q | default({}) | length
l | sort, l | sort(reverse=true), w | sort, w | sort(case_sensitive=true), ms | sort(attribute="content") | map(attribute="content") | list, [[2, 1], [1, 2]] | sort, w | unique | list, ["a", "A", "b"] | unique | list, ["a", "A"] | unique(case_sensitive=true) | list
l | min, l | max, w | min, w | max, [] | min is defined, l | sum, ms | sum(attribute="n", start=1) if false else 0, [1.5, 2] | sum, [[1], [2]] | sum(start=[]), [{"a": 1}, {"a": 5}] | max(attribute="a")
l | first, l | last, [] | first is defined, e | first is defined, l | reverse | list, d | first, d | last, (1, 2) | reverse | list, range(3) | last, l | length, l | count
ms | map(attribute="role") | list, w | map("upper") | list, ms | map(attribute="n", default=0) | list, ["a b"] | map("split") | list if false else 1, [1, 2] | map("string") | join("+"), [[1, 2], [3]] | map("first") | list, w | map("replace", "a", "z") | list, ms | map(attribute="content.0") | list
l | select | list, l | select("odd") | list, l | reject("odd") | list, ms | selectattr("role", "equalto", "user") | list | length, ms | rejectattr("role", "eq", "user") | map(attribute="content") | list, ms | selectattr("n") | list | length if false else 0, ms | selectattr("n", "defined") | list | length, l | select(">", 1) | list, l | select("in", [1, 2]) | list, [0, 1, "", "a", none] | select | list
(l | select("odd")) is iterable, (l | select("odd")) is sequence, (l | map("string")) is string, (l | select(">", 9)) and "truthy", l | select("odd") | first
d | dictsort, {"b": 1, "A": 2} | dictsort, {"b": 1, "A": 2} | dictsort(true), {"b": 1, "A": 2} | dictsort(by="value", reverse=true), {"a": 1} | items | list, nope | items | list
[1, 2, 3, 4, 5] | batch(2) | list, [1, 2, 3] | batch(2, 0) | list, [1, 2, 3, 4, 5] | slice(2) | list, [1, 2, 3] | slice(2, 0) | list
ms | groupby("role") | map("first") | list, [{"a": "X"}, {"a": "x"}, {"a": "y"}] | groupby("a"), [{"a": 1}, {}] | groupby("a", default=0) | list
"42" | int, "4.7" | int, "x" | int, "x" | int(5), "0x1f" | int(0, 16), " 12 " | int, none | int, 3.9 | int, -3.9 | int, true | int, "1_000" | int, "1e3" | int, "" | int, "-7" | int, "101" | int(base=2), [] | int
"3.5" | float, "x" | float, "x" | float(1.5), " 1e3 " | float, 3 | float, none | float, true | float, "1_0.5" | float
2.5 | round, 3.5 | round, 2.675 | round(2), 42.55 | round(1, "floor"), 42.51 | round(1, "ceil"), 42 | round, -2.5 | round, 1234.5 | round(-2), 1284.5 | round(-2), 1250.0 | round(-2), 0.5 | round, 1.5 | round(method="ceil")
-5 | abs, (-5) | abs, 5.5 | abs, -x | abs, (-x) | abs, true | abs, "a b c" | wordcount, "" | wordcount, "foo bar baz qux" | truncate(9), "foo bar baz qux" | truncate(9, true), "foo bar baz qux" | truncate(11), "foo bar baz qux" | truncate(11, false, "..", 0)
"a\nb\n\nc" | indent, "a\nb" | indent(2, true), "a\n\nb" | indent(2, blank=true), "a\nb" | indent("> "), "a\n" | indent(2) ~ "|", "" | indent ~ "|", "a\r\nb" | indent(1)
"<a href='x'>\"&" | escape, "<" | e | e, "<" | escape | string, ("<" | safe) ~ "<", ("<b>" | safe) + "<i>", "<i>" + ("<b>" | safe), ("<" | safe) | upper, "<b>" | safe | length, ("a" | safe) is escaped, "<" | e | forceescape, ["<" | safe], "<b>" | safe | trim + "<"
d | tojson, l | tojson, s | tojson, n | tojson, t | tojson, f | tojson, u | tojson, u | tojson(ensure_ascii=true), "<&>'\"\\\n\t\b\f\r\x1f\x7f/" | tojson, "\x7f\u2028" | tojson(ensure_ascii=true), big | tojson, big, 1e22 | tojson, 1e-7 | tojson, 100000.0 | tojson, -0.0 | tojson
d | tojson(indent=2), d | tojson(indent=0), [] | tojson(indent=2), {} | tojson(indent=2), [[], {}] | tojson(indent=4), d | tojson(separators=(",", ":")), d | tojson(sort_keys=true) if false else {"b": 1, "a": 2} | tojson(sort_keys=true), {"a": [1]} | tojson(indent="--"), (1, 2) | tojson, {1: 2, none: 3, 1.5: 4, false: 5} | tojson, nest | tojson(indent=1)
x is number, f is number, t is number, s is number, x is integer, t is integer, f is float, x is float, t is boolean, s is string, n is none, l is iterable, s is iterable, x is iterable, d is mapping, l is mapping, l is sequence, d is sequence, s is sequence, x is sequence, nope is iterable, nope is sequence, range(2) is sequence
x is odd, x is even, 6 is divisibleby 3, 6 is divisibleby(4), x is sameas x, t is sameas true, 1 is sameas true, n is sameas none, "a" is lower, "A" is upper, "aB" is lower, x is eq 7, x is ne 7, x is lt 8, x is gt(8), x is ge 7, x is le 6, 1 is in [1], x is not none, x is not string, t is true, z is false, x is true, "a" is in "abc", x is greaterthan 3, "trim" is filter, "odd" is test
range(5) | list, range(2, 8, 3) | list, range(5, 0, -2) | list, range(0) | list, range(3), range(3)[1], range(3) | length, 2 in range(3), range(3) == range(0, 3), dict(a=1, b=2), dict([("k", 1)]), dict({"a": 1}, b=2), dict() | length
"\x41\u00e9\U0001F999\101\n\'\"\\\q", "tab\there", '\a\b\f\v' | tojson
l + [9], (1,) + (2,), "ab" * 3, 2 * "ab", [0] * 3, l * 0, "a" * -1, "x" + "y" + "z", "é" * 2
true and "a" or "b", (1, 2) | join, not not x, - - 3, +3, -(-3), --x, 2 + 3 * 4, (2 + 3) * 4, 2 ** 3 ** 2, 10 - 2 - 3, 100 // 7 // 2, 7 % 4 * 2
"a" if t else "b" if z else "c", ("a" if z else "b" if z else "c"), [1 if t else 2, 3][0], {"a": 1 if t}["a"], x if t if t
strftime_now("%d %b %Y"), strftime_now("%Y-%m-%d %H:%M:%S %a %A %B %j %y %p %I %e %%"), strftime_now("%-d/%-m")
d.a[0], d["a"][1]["k"], ms[0].role ~ ms[-1]["content"], ms[1].n, (ms | first).role, ms[0]["content"].strip(), ms | length > 2, ms[1:][0].role, l.index(1), l.count(3), (1, 2, 1).count(1), l.copy()
"a" "b" | upper, "a" ~ "b" | upper, -1 | string, 1 + 2 | string | length, x is string or t, not x is string, x == 7 and y < 0, "%s" | format(3), "%s %s" | format("a", 1), "%(q)s" | format(q=2)
n | string, none ~ "", [none, true, 1.0] | string, d.b is defined and d.b == 1, d["C"] is none, nope is none, (nope | default(none)) is none, nope | string, nope | trim, nope | upper, nope | length, nope | list, nope | join, nope | replace("a", "b"), nope ~ "x", "x" in nope, nope == nope2, not nope
loop is defined, caller is defined, varargs is defined, dict is callable, range is defined, namespace is defined, lower is defined
"a\u0301b" | length, "🦙" | length, "🦙🦙"[1], "e\u0301".upper(), "ß".upper(), "ﬁ" | upper, "ŉ" | title, "ǅ" | lower, "Ω" | lower, "ⅷ" | upper, "ß" | capitalize, "ﬁx" | capitalize
big is number, big is integer, big is string, big == big, [big], big ~ "", {"k": big} | tojson, big > 5, big != 5
"abc" | attr("upper") is callable, {"q": 1} | attr("q") is defined, "abc" | attr("nope") is defined, ns is defined
""".strip().split("\n")

# each fails in jinja2, one a line
ERRORS = r"""
nope.x
nope["x"]
nope + 1
nope()
d.nope.x
none.x.y
1 + "a"
"a" + 1
l + (1,)
1 / 0
1 // 0
1.5 % 0
l.append(4)
d.update({})
d.pop("b")
l.nope()
x()
s.nope()
raise_exception("no!")
1 < "a"
none < 1
["a", 1] | sort
x | length
x | first
x | list
x | join
x | nope
x is nope
range(100001)
range(1, 5, 0)
"a".index("z")
"%d" % "a"
"%s %s" % "a"
"%s" % (1, 2)
"{} {}".format(1)
"{q}".format(1)
nope | tojson
range(3) | tojson
{[1]: 2}
{"a": 1} | items | length
(l | select) | last
"a" * "b"
namespace(_a=1)
d["a"]["b"]["c"]
1 in 5
"a" in x
1 in "abc"
"abc".startswith(1)
"abc".split("")
"a" | int(0, 99) + "a"
l[::0]
x | map("upper") | list
[1] | map("nope") | list
ms | map | list
strftime_now()
"a".join([1])
nope | int
nope | sum + nope
dict(1)
x | dictsort
d | dictsort(by="q")
x | batch(2) | list
[3] | batch
"abc"(1)
x.y.z
d | sort(attribute="q.r")
-"a"
- nope
nope < 1
[nope] | sort + [1, nope] | sort
x is divisibleby 0
"a" is odd
1 is
| x
x |
(1
"abc
{{ x }
x y
x[
x.
d.a.b.c
1 2
a b if
""".strip().split("\n")

# whole templates; texts that begin with ! must fail
TEXTS = {
    "plain": "hello\n", "no newline": "a", "two newlines": "a\n\n", "crlf": "a\r\nb\rc\r\n", "empty": "",
    "only newline": "\n", "braces": "{ } {x} }} %} #} { {", "comment": "a{# c {{ x }} {% if %} #}b",
    "comment lines": "a\n  {# c #}\nb\n{#- c -#}\n c\n{# d\ne #}f", "comment plus": "a\n  {#+ c +#}\nb",
    "trim": "{% if t %}\na\n{% endif %}\nb", "lstrip": "  {% if t %}\n  a\n  {% endif %}\n  b",
    "lstrip text": "x {% if t %} a {% endif %} y\n", "var keeps": "  {{ x }}  \n  {{- y -}}  \n  z",
    "minus": "a \n {%- if t -%} \n b \n {%- endif -%} \n c", "plus": "a\n  {%+ if t %}b{% endif +%}\nc",
    "plus end": "{% if t +%}\nb\n{% endif +%}\nc", "minus var": "a  {{- x -}}  b {{-x-}} c",
    "minus number": "{{ -3 }}{{-3}}{{ 3-}}", "unicode space": "a\u00a0\u2003{%- if t -%}\u3000b{% endif %}",
    "tabs": "\t{% if t %}\t\n\tb\t{% endif %}\t\n", "two on line": "  {% if t %}{% if t %}\n a{% endif %}  {% endif %}\n",
    "block then var": "{% set q = 1 %}\n{{ q }}\n{% set q = 2 %}\n{{ q }}\n", "after var": "{{ x }}\n{% if t %}a{% endif %}\n",
    "raw": "{% raw %}{{ x }} {% if %}{% endraw %}|", "raw lines": "a\n  {% raw %}\n {{ x }}\n  {% endraw %}\nb",
    "raw minus": "a {%- raw -%} {{ x }} {%- endraw -%} b", "raw plus": "a\n {%+ raw %} q\n {%+ endraw +%}\nb",
    "if": "{% if z %}a{% elif x == 7 %}b{% else %}c{% endif %}{% if z %}a{% elif z %}b{% else %}c{% endif %}{% if z %}q{% endif %}",
    "if colon": "{% if t: %}a{% else: %}b{% endif %}",
    "for": "{% for i in l %}{{ i }},{% endfor %}{% for i in [] %}a{% else %}none{% endfor %}{% for i in l %}{% else %}x{% endfor %}",
    "for loop": "{% for i in w %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.cycle('x', 'y') }};{% endfor %}",
    "for items": "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for k, v in d | dictsort %}{{ k }}{% endfor %}",
    "for neighbours": "{% for i in l %}{{ loop.previtem }}<{{ i }}<{{ loop.nextitem }} {{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "for changed": "{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }}{% endfor %}",
    "for if": "{% for i in range(10) if i is odd %}{{ i }}{{ loop.index }}{{ loop.last }}{{ loop.length }} {% else %}no{% endfor %}{% for i in l if i > 5 %}a{% else %}b{% endfor %}",
    "for if outer": "{% set k = 2 %}{% for i in l if i != k %}{{ i }}{% endfor %}",
    "for unpack": "{% for a, (b, c) in [(1, (2, 3))] %}{% endfor %}", "for unpack two": "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }};{% endfor %}",
    "!for unpack short": "{% for a, b in [(1,)] %}{% endfor %}", "!for unpack long": "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "!for number": "{% for a in 5 %}{% endfor %}", "!for none": "{% for a in none %}{% endfor %}", "for undefined": "{% for a in nope %}x{% else %}y{% endfor %}",
    "for str": "{% for c in 'aé🦙' %}[{{ c }}]{% endfor %}", "for tuple": "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}",
    "for scope": "{% set q = 1 %}{% for i in l %}{% set q = q + i %}{{ q }};{% endfor %}{{ q }}",
    "for scope fresh": "{% for i in l %}{{ q is defined }}{% set q = i %}{{ q }}{% endfor %}{{ q is defined }}{{ i is defined }}",
    "for nested": "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.index }}{{ a }}{{ b }} {% endfor %}{{ loop.index }};{% endfor %}",
    "for outer loop": "{% for a in [1, 2] %}{% set o = loop %}{% for b in [3, 4] %}{{ o.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "for recursive": "{% for n in nest recursive %}{{ loop.depth }}{% if n is iterable %}({{ loop(n) }}){% else %}{{ n }}{% endif %}{% endfor %}",
    "!for not recursive": "{% for n in nest %}{{ loop(n) }}{% endfor %}",
    "for generator": "{% set g = l | select('odd') %}{% for i in g %}{{ i }}{% endfor %}|{% for i in g %}{{ i }}{% else %}empty{% endfor %}",
    "for generator length": "{% for i in l | map('string') %}{{ i }}{{ loop.length }}{{ loop.last }}{{ loop.revindex }} {% endfor %}",
    "break": "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}{% for i in l %}{% break %}{% else %}e{% endfor %}",
    "continue": "{% for i in range(6) %}{% if i is odd %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "break nested": "{% for a in l %}{% for b in l %}{% if b == 1 %}{% break %}{% endif %}{{ a }}{{ b }}{% endfor %};{% endfor %}",
    "else after break": "{% for i in l %}{% continue %}{% else %}e{% endfor %}", "!break outside": "{% break %}", "!break in macro": "{% for i in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "set": "{% set q = 5 %}{{ q }}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c) = 3 %}{{ c }}{% set t2 = 1, %}{{ t2 }}",
    "set in if": "{% if t %}{% set q = 1 %}{% endif %}{{ q }}{% if z %}{% set r = 1 %}{% endif %}{{ r is defined }}",
    "set block": "{% set q %}a{{ x }}\n  b{% endset %}[{{ q }}]{% set q | upper | trim %}  ab {% endset %}[{{ q }}]{{ q is string }}",
    "set block scope": "{% set r = 1 %}{% set q %}{% set r = 2 %}{{ r }}{% endset %}{{ q }}{{ r }}",
    "!set const": "{% set 1 = 2 %}", "!set attr": "{% set d.b = 2 %}", "!set item": "{% set d['b'] = 2 %}", "!set true": "{% set true = 1 %}",
    "namespace": "{% set ns = namespace(a=1, b='x') %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.q is defined }}{% set ns.q = [1] %}{{ ns.q }}",
    "namespace dict": "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns }}",
    "!namespace under": "{% set ns = namespace() %}{% set ns._a = 1 %}", "namespace item": "{% set ns = namespace(a=1) %}{{ ns['a'] }}{{ ns.items is defined }}",
    "namespace tuple": "{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}",
    "macro": "{% macro m(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=4, a=5) }}{{ m(1, c=9) }}",
    "macro missing": "{% macro m(a) %}[{{ a }}{{ a is defined }}]{% endmacro %}{{ m() }}{{ m(n) }}{{ m(none) }}",
    "macro varargs": "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}{{ m() }}",
    "!macro too many": "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "!macro keyword": "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=2) }}",
    "!macro missing use": "{% macro m(a) %}{{ a.b }}{% endmacro %}{{ m() }}",
    "macro spread": "{% macro m(a, b, c=0) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(1, **{'b': 5, 'c': 6}) }}",
    "macro globals": "{% macro m() %}{{ q is defined }}{{ x }}{% endmacro %}{{ m() }}{% set q = 1 %}{{ m() }}",
    "macro scope": "{% set q = 1 %}{% macro m() %}{% set q = 2 %}{{ q }}{% endmacro %}{{ m() }}{{ q }}",
    "macro recursive": "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "macro in loop": "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "macro no loop": "{% macro m() %}{{ loop is defined }}{% endmacro %}{% for i in l %}{{ m() }}{% endfor %}",
    "macro result": "{% macro m() %} a {% endmacro %}{{ m() | trim | upper ~ m() | length }}{{ m() is string }}{{ m.name }}",
    "macro trim": "{% macro m() %}\n  a\n{% endmacro %}\n[{{ m() }}]\n", "macro as value": "{% macro m(v) %}<{{ v }}>{% endmacro %}{% set f = m %}{{ f(1) }}",
    "macro default scope": "{% set q = 1 %}{% macro m(a=q) %}{{ a }}{% endmacro %}{{ m() }}{% set q = 2 %}{{ m() }}",
    "call": "{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}{% call m(1) %}in {{ x }}{% endcall %}",
    "call args": "{% macro m() %}{{ caller(1, b=2) }}{% endmacro %}{% call(a, b, c=3) m() %}{{ a }}{{ b }}{{ c }}{% endcall %}",
    "!call none": "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "call maybe": "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}",
    "!call unused": "{% macro m() %}a{% endmacro %}{% call m() %}b{% endcall %}",
    "filter block": "{% filter upper %}a{{ s }}{% endfilter %}{% filter replace('a', 'b') | trim %}  aa {% endfilter %}",
    "filter scope": "{% set q = 1 %}{% filter upper %}{% set q = 2 %}{{ q }}{% endfilter %}{{ q }}",
    "with": "{% with a = 1, b = x %}{{ a }}{{ b }}{% set c = 3 %}{% endwith %}{{ a is defined }}{{ c is defined }}{% with %}{{ x }}{% endwith %}",
    "with old": "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "generation": "a{% generation %}b{{ x }}{% set q = 1 %}{% endgeneration %}c{{ q is defined }}",
    "generation lines": "{% for m in ms %}\n{% generation %}\n{{ m.role }}\n{% endgeneration %}\n{% endfor %}\n",
    "print": "{% print x %}{% print x, y %}",
    "!unknown tag": "{% nope %}", "!end": "{% endif %}", "!unclosed": "{% if t %}", "!crossed": "{% if t %}{% for i in l %}{% endif %}{% endfor %}",
    "!unclosed var": "{{ x", "!unclosed comment": "{# a", "!unclosed raw": "{% raw %} ", "raw at end": "a{% raw %}", "comment at end": "a{#", "!do": "{% do l.append(1) %}",
    "unknown filter unreached": "{% if z %}{{ x | nope }}{% endif %}ok", "!unknown filter reached": "{% if t %}{{ x | nope }}{% endif %}ok",
    "!unknown filter in loop": "{% if z %}{% for i in l %}{{ x | nope }}{% endfor %}{% endif %}ok", "unknown filter inline": "{{ x | nope if z else 'ok' }}",
    "!unknown filter plain": "{% for i in [] %}{{ x | nope }}{% endfor %}",
    "append unreached": "{% if z %}{{ l.append(1) }}{% endif %}ok{{ l.append is defined }}",
    "strings": "{{ '\\n' }}{{ \"a\\tb\" }}{{ 'it\\'s' }}", "nested quotes": "{{ \"{{ x }}\" }}{{ '%}' }}{% if '}}' %}a{% endif %}",
    "dict in var": "{{ {'a': {'b': 1}}.a.b }}{{ {'a': 1}}}", "chat": "{{ bos_token }}{% for m in ms %}{{ '<|' + m['role'] + '|>\\n' + m['content'] | trim }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "namespace chain": "{% set ns = namespace(found=false, i=-1) %}{% for m in ms[::-1] %}{% set k = (ms | length - 1) - loop.index0 %}{% if m.role == 'assistant' and not ns.found %}{% set ns.found = true %}{% set ns.i = k %}{% endif %}{% endfor %}{{ ns.i }}{{ ns.found }}",
    "alternate": "{% for m in ms %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{{ loop.index0 }}{% endfor %}",
    "undefined prints": "[{{ nope }}][{{ d.nope }}][{{ l[9] }}][{{ x if z }}]", "loop var after": "{% for i in l %}{% endfor %}{{ i }}",
    "deep if": "{% if t %}{% if t %}{% if t %}{% if t %}x{% endif %}{% endif %}{% endif %}{% endif %}",
    "slices of messages": "{% if ms[0]['role'] == 'user' %}{% set rest = ms[1:] %}{% else %}{% set rest = ms %}{% endif %}{{ rest | length }}{{ rest[0].content }}",
    "line joined": "{{ 'a\\\nb' }}", "block spaces": "{%if t%}a{%endif%}{%-if t-%} b {%-endif-%}",
    "is chain": "{% if x is defined and x is not none and x is number %}y{% endif %}{% if not (x is string) %}z{% endif %}",
    "loop in macro arg": "{% macro m(l) %}{{ l.index }}{% endmacro %}{% for i in [1, 2] %}{{ m(loop) }}{% endfor %}",
    "set over loop var": "{% for i in l %}{% set i = i * 2 %}{{ i }}{% endfor %}",
    "concat grows": "{% set ns = namespace(s='') %}{% for i in range(30) %}{% set ns.s = ns.s + 'é' ~ i %}{% endfor %}{{ ns.s }}{{ ns.s | length }}",
    "set first": "{% macro m() %}[{{ x }}]{% endmacro %}{{ m() }}{% for i in [1] %}{{ x }}{% endfor %}{% set x = 1 %}{{ m() }}{{ x }}",
    "read first": "{% macro m() %}[{{ x }}]{% endmacro %}{% if x %}{% endif %}{{ m() }}{% set x = 1 %}{{ m() }}",
    "set in branch": "{% macro m() %}[{{ x }}{{ s }}]{% endmacro %}{{ m() }}{% if t %}{% set x = 1 %}{% else %}{% set s = 2 %}{% endif %}{{ m() }}",
    "set reads itself": "{% macro m() %}[{{ x }}{{ l }}]{% endmacro %}{{ m() }}{% set x = x + 1 %}{% set l, q = 1, l %}{{ m() }}",
    "set block first": "{% macro m() %}[{{ x }}]{% endmacro %}{{ m() }}{% set x %}{{ x }}{% endset %}{{ m() }}",
    "global set first": "{% macro m() %}[{{ range is defined }}]{% endmacro %}{{ m() }}{% set range = 1 %}{{ m() }}",
    "shared prefix": "{% set a = 'x' * 200 %}{% set b = a + '1' %}{% set c = a + '2' %}{% set d2 = b + '3' %}{{ b[-2:] }}{{ c[-2:] }}{{ d2[-2:] }}",
}


# A guard's prompt: what Llama Guard 3's template does (roles by turn, a table of categories that a caller
# may replace or cut, texts in parts or not), written anew.
GUARD = """
{%- set who = 'Agent' if messages | length is even else 'User' -%}
{%- if categories is not defined -%}
    {%- set categories = {
        'S1': 'Violent Crimes.', 'S2': 'Non-Violent Crimes.', 'S3': 'Sex Crimes.', 'S4': 'Child Exploitation.',
        'S5': 'Defamation.', 'S6': 'Specialized Advice.', 'S7': 'Privacy.', 'S8': 'Intellectual Property.',
        'S9': 'Indiscriminate Weapons.', 'S10': 'Hate.', 'S11': 'Self-Harm.', 'S12': 'Sexual Content.',
        'S13': 'Elections.', 'S14': 'Code Interpreter Abuse.',
    } -%}
{%- endif -%}
{{ ' ' if blank is defined }}{{ '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\\n\\n' -}}
{{ "Task: judge the last '" + who + "' message by these categories.\\n\\n<CATEGORIES>\\n" -}}
{%- for key in categories -%}
    {%- if key not in excluded_category_keys -%}{{ key + ': ' + categories[key] + '\\n' }}{%- endif -%}
{%- endfor -%}
{{ '</CATEGORIES>\\n\\n' -}}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Roles must alternate user, assistant, user') }}
    {%- endif -%}
    {%- set name = {'user': 'User', 'assistant': 'Agent'}[message.role] -%}
    {%- if message.content is string -%}
        {{ name ~ ': ' ~ message.content | trim ~ '\\n\\n' }}
    {%- else -%}
        {%- for part in message.content | selectattr('type', 'equalto', 'text') -%}
            {{ name + ': ' + part['text'] | trim + '\\n\\n' }}
        {%- endfor -%}
    {%- endif -%}
{%- endfor -%}
{{ "Answer 'safe' or 'unsafe'.<|eot_id|><|start_header_id|>assistant<|end_header_id|>" -}}
"""


def guard_cases():
    """name, variables"""
    u, a = ref.u, ref.a
    two = [u(" How do I pick a lock? "), a("Call <|eot_id|> a locksmith.\n")]
    yield "user", dict(messages=two[:1])
    yield "agent", dict(messages=two)
    yield "three", dict(messages=two + [u("Ünd dann?")])
    yield "parts", dict(messages=[u([{"type": "image"}, {"type": "text", "text": " a "}, {"type": "text", "text": "b"}])])
    yield "categories", dict(messages=two, categories={"S1": "Mine.", "X": "<other>"})
    yield "excluded", dict(messages=two, excluded_category_keys=["S6", "S14"])
    yield "none", dict(messages=two, categories={})
    yield "blank", dict(messages=two, blank=True)
    yield "roles", dict(messages=[two[1]])
    yield "same role", dict(messages=[two[0], two[0]])
    yield "system", dict(messages=[ref.s("x"), two[0]])
    yield "empty", dict(messages=[])
    yield "null", dict(messages=[u(None)])


def cases():
    for line in EXPR:
        yield line, "{{ (" + line + ",) }}", False
        if "%s" not in line:
            # items one by one, as str() prints them
            yield "str " + line, "{% for i in (" + line + ",) %}[{{ i }}]{% endfor %}", False
    for line in ERRORS:
        yield "error " + line, "{{ " + line + " }}", True
    for name, text in TEXTS.items():
        yield name, text, name[0] == "!"


def main():
    out, bad = [], 0
    variables = dict(VARS, bos_token="<s>", add_generation_prompt=True)
    for name, template, fails in cases():
        text, error = ref.reference(template, variables)
        if fails and error is None:
            print(f"{name!r} does not fail in jinja2: {text!r}", file=sys.stderr)
            bad += 1
        if not fails and error is not None and "nested" not in name and name != "for unpack":
            print(f"{name!r} fails in jinja2: {error}", file=sys.stderr)
            bad += 1
        one = {"name": name, "template": template}
        one.update({"text": text} if error is None else {"error": error[:80]})
        out.append(one)
    for name, own in guard_cases():
        text, error = ref.reference(GUARD, own)
        out.append({"name": "guard " + name, "template": GUARD,
                    "vars": {k: json.dumps(v) for k, v in own.items()},
                    **({"text": text} if error is None else {"error": error[:80]})})
    if bad and len(sys.argv) == 1:
        raise SystemExit("not written")
    if len(sys.argv) > 1:
        for one in out:
            own = {k: json.loads(v) for k, v in one.get("vars", {}).items()} or variables
            got = ref.drover(sys.argv[1], one["template"], [own])[0]
            same = "error" in one if "error" in got else got["text"] == one.get("text")
            if not same:
                bad += 1
                print(f"{one['name']}\n   drover {got.get('error') or repr(got.get('text'))}\n   jinja2 "
                      f"{one.get('error') or repr(one['text'])}")
        print(f"{len(out)} cases, {bad} differ")
        return bad > 0
    texts = {k: json.dumps(v) for k, v in variables.items()}
    json.dump({"now": ref.NOW, "vars": texts, "cases": out}, sys.stdout, ensure_ascii=True, indent=0)
    print()
    here = os.path.join(os.path.dirname(__file__), "../../tests/golden/data/jinja.txt")
    with open(here, "w") as f:
        f.write(f"jinja2 {jinja2.__version__}, transformers {transformers.__version__}, "
                f"Python {sys.version.split()[0]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
