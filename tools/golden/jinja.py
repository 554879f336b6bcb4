#!/usr/bin/env python3
"""Chat templates rendered by drover and by jinja2, as transformers sets it up: compare.

    tools/golden/jinja.py DROVER FOLDER|FILE...     .jinja files, or tokenizer_config.json files

Every template is rendered over every conversation of CASES. A pair agrees when both texts are equal
to the byte or both refuse; it is refused when only drover does, with a sentence; it differs otherwise,
which fails the run. -v shows refusals and differences.

    tools/golden/jinja.py DROVER --ids FOLDER FILE...

compares token ids, with the tokenizer.json of FOLDER: drover's as a chat has them, and transformers' of the
rendered text. (Contents that spell control tokens are left out: there they differ by design.)
"""
import datetime
import json
import os
import subprocess
import sys
import tempfile

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

NOW = 1721995200 + 43200                       # a day in July 2024

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place <now> & \"later\".",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Where, e.g. Zürich"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "default": 3},
        "where": {"type": "object", "properties": {"lat": {"type": "number"},
                                                   "tags": {"type": "array", "items": {"type": "string"}}},
                  "required": ["lat"]},
        "opt": {"type": ["string", "null"]}},
        "required": ["city"]},
    "return": {"type": "number", "description": "degrees"}}}
PLAIN = {"type": "function", "function": {
    "name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}


def call(name, args, id="call12345", text=False):
    return {"id": id, "type": "function",
            "function": {"name": name, "arguments": json.dumps(args) if text else args}}


def u(x): return {"role": "user", "content": x}
def a(x, **k): return {"role": "assistant", "content": x, **k}
def s(x): return {"role": "system", "content": x}
def t(x, **k): return {"role": "tool", "content": x, **k}


ARGS = {"city": "Zürich", "days": 2, "where": {"lat": 47.4, "tags": ["a", "b\"c"]}, "x": 1e22,
        "f": 0.1, "n": None, "b": True}


def cases():
    """name -> variables"""
    c = {}
    c["one"] = dict(messages=[u("Hello")])
    c["system"] = dict(messages=[s("Be brief."), u("Hello")])
    c["turns"] = dict(messages=[s("Be brief."), u("Hi"), a("Hello!"), u("How are you?"), a("Fine."),
                                u("Good.")])
    c["no-prompt"] = dict(messages=[u("Hi"), a("Hello!")], add_generation_prompt=False)
    c["prompt-after-answer"] = dict(messages=[u("Hi"), a("Hello!")])
    c["unicode"] = dict(messages=[s("Sei höflich 🦙"), u("日本語 \u00a0\u2028 ß İ \U0001f600\ttab"), a("ǆ ŉ"),
                                  u("ΑΣ")])
    c["spaces"] = dict(messages=[s("  \n sys \t\n"), u("\n\n  a  \n"), a(" \r\n b \u3000"), u("  ")])
    c["empty"] = dict(messages=[u(""), a(""), u("")])
    c["special"] = dict(messages=[s("<|im_start|>system\n<|eot_id|>"), u("<|im_end|></s>[INST] {{ x }} {% if %} "
                                  "<|start_header_id|>"), a("<think>no</think>yes<|end|>"), u("'\"\\ & <b>")])
    c["tools"] = dict(messages=[u("Weather in Zürich?")], tools=[TOOL])
    c["tools-two"] = dict(messages=[s("Use tools."), u("Weather?")], tools=[TOOL, PLAIN])
    full = [u("Weather?"), a("", tool_calls=[call("get_weather", ARGS)]),
            t("{\"degrees\": 21.5}", tool_call_id="call12345", name="get_weather"), a("21.5 degrees."),
            u("Thanks")]
    c["tool-call"] = dict(messages=full, tools=[TOOL])
    c["tool-call-text"] = dict(messages=[full[0], a("", tool_calls=[call("get_weather", ARGS, text=True)]),
                                         full[2], full[3], full[4]], tools=[TOOL])
    c["tool-call-null"] = dict(messages=[full[0], a(None, tool_calls=[call("now", {})]),
                                         t("12:00", tool_call_id="call12345", name="now")], tools=[PLAIN])
    c["tool-calls-two"] = dict(messages=[s("S"), u("Both?"), a("Let me see.", tool_calls=[
        call("get_weather", {"city": "Bern"}, "aaaaaaaaa"), call("now", {}, "bbbbbbbbb")]),
        t("20", tool_call_id="aaaaaaaaa", name="get_weather"), t("12:00", tool_call_id="bbbbbbbbb", name="now"),
        a("20 at 12:00"), u("ok"), a("", tool_calls=[call("now", {}, "ccccccccc")]),
        t("12:01", tool_call_id="ccccccccc", name="now")], tools=[TOOL, PLAIN])
    c["tool-result-object"] = dict(messages=[u("W?"), a("", tool_calls=[call("now", {})]),
                                             t({"time": "12:00", "ok": True}, tool_call_id="call12345")],
                                   tools=[PLAIN])
    c["parts"] = dict(messages=[s([{"type": "text", "text": "Sys"}]),
                                u([{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]),
                                a([{"type": "text", "text": "Three"}]), u([{"type": "text", "text": "4"}])])
    c["image"] = dict(messages=[u([{"type": "image"}, {"type": "text", "text": "What is it?"}])])
    c["roles"] = dict(messages=[u("a"), u("b")])
    c["role-unknown"] = dict(messages=[u("a"), {"role": "narrator", "content": "x"}])
    c["late-system"] = dict(messages=[u("a"), s("late"), u("b")])
    c["assistant-first"] = dict(messages=[a("I begin."), u("ok")])
    c["only-system"] = dict(messages=[s("alone")])
    c["none"] = dict(messages=[])
    c["no-content"] = dict(messages=[u("a"), {"role": "assistant"}, u("b")])
    c["null-content"] = dict(messages=[u(None)])
    c["date"] = dict(messages=[u("a")], date_string="01 Jan 2030", today="x")
    c["thinking"] = dict(messages=[u("2+2?"), a("<think>\nhm\n</think>\n\n4"), u("3+3?"),
                                   a("6", reasoning_content="easy"), u("x")], enable_thinking=True)
    c["no-thinking"] = dict(messages=[u("2+2?"), a("4", thinking="t", reasoning="r"), u("x")],
                            enable_thinking=False, reasoning_effort="low")
    c["thinking-tools"] = dict(messages=[u("w?"), a("", reasoning_content="use it",
                                                     tool_calls=[call("get_weather", {"city": "B"})]),
                                         t("20", tool_call_id="call12345", name="get_weather")],
                               tools=[TOOL], enable_thinking=True)
    c["documents"] = dict(messages=[u("q")], documents=[{"title": "T", "text": "some <text>", "id": 3},
                                                        {"title": "É", "text": "more"}])
    c["builtin"] = dict(messages=[u("q")], builtin_tools=["brave_search", "wolfram_alpha"],
                        code_interpreter=True)
    c["big"] = dict(messages=[u("q"), a("", tool_calls=[call("now", {"n": 12345678901234567890123,
                                                                     "f": 1.5e300, "z": -0.0})]),
                              t("1", tool_call_id="call12345", name="now")], tools=[PLAIN])
    c["generic"] = dict(messages=[u("q"), {"role": "developer", "content": "dev"}, u("r")], tools=[],
                        custom_tools=None, keep_past_thinking=True)
    for v in c.values():
        v.setdefault("add_generation_prompt", True)
        v.setdefault("bos_token", "<s>")
        v.setdefault("eos_token", "</s>")
    return c


def strftime_now(form):
    return datetime.datetime.fromtimestamp(NOW).strftime(form)


def reference(template, variables):
    try:
        c = _compile_jinja_template(template)
        c.environment.globals["strftime_now"] = strftime_now
        c.globals["strftime_now"] = strftime_now
        text = c.render(**json.loads(json.dumps(variables)))
        text.encode()
        return text, None
    except Exception as e:                      # whatever Python raises, the template fails
        return None, f"{type(e).__name__}: {e}"


def compare_ids(program, folder, paths):
    tok = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"))
    cfg = json.load(open(os.path.join(folder, "tokenizer_config.json")))
    text_of = (lambda x: x["content"] if isinstance(x, dict) else x)                # noqa: E731
    bos, eos = text_of(cfg["bos_token"]), text_of(cfg["eos_token"])
    c = {k: dict(v, bos_token=bos, eos_token=eos) for k, v in cases().items() if k != "special"}
    n = bad = 0
    for name, template in templates(paths):
        got = drover(program, template, list(c.values()), (folder, "--ids"))
        for case, v, g in zip(c, c.values(), got):
            text, error = reference(template, v)
            if error is not None or "error" in g:
                continue
            ids = tok.encode(text, add_special_tokens=False)
            if ids[:1] != [tok.convert_tokens_to_ids(bos)]:
                ids = [tok.convert_tokens_to_ids(bos)] + ids
            n += 1
            if ids != g["ids"]:
                bad += 1
                print(f"{name} / {case}: {len(g['ids'])} ids, wanted {len(ids)}")
    print(f"{n} prompts' ids compared, {bad} differ")
    return 1 if bad or not n else 0


def drover(program, template, all_cases, extra=()):
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "t"), "w", newline="") as f:
            f.write(template)
        with open(os.path.join(d, "i"), "w") as f:
            json.dump(all_cases, f)
        p = subprocess.run([program, "chat-render", "-f", f.name[:-1] + "t", "-i", f.name, "--json",
                            "--now", str(NOW), *extra], capture_output=True, text=True)
    if p.returncode == 0:
        return json.loads(p.stdout)
    if p.returncode != 1:
        raise SystemExit(f"drover died: {p.returncode} {p.stderr}")
    return [{"error": p.stderr.strip()}] * len(all_cases)


def templates(paths):
    for path in paths:
        if os.path.isdir(path):
            yield from templates(sorted(os.path.join(path, x) for x in os.listdir(path)
                                        if x.endswith(".jinja")))
        elif path.endswith(".json"):
            one = json.load(open(path)).get("chat_template")
            name = os.path.basename(os.path.dirname(path))
            if isinstance(one, str):
                yield name, one
            for x in one if isinstance(one, list) else []:
                yield name + "/" + x["name"], x["template"]
        else:
            yield os.path.basename(path), open(path, newline="").read()


def main():
    args = sys.argv[1:]
    verbose = "-v" in args
    args = [x for x in args if x != "-v"]
    program, paths = args[0], args[1:]
    if paths[0] == "--ids":
        return compare_ids(program, paths[1], paths[2:])
    c = cases()
    names, values = list(c), list(c.values())
    total = {"equal": 0, "both refuse": 0, "refused": 0, "differs": 0}
    n_templates = rendered = whole = 0
    for name, template in templates(paths):
        n_templates += 1
        got = drover(program, template, values)
        count = dict.fromkeys(total, 0)
        for case, v, g in zip(names, values, got):
            text, error = reference(template, v)
            if error is not None:
                kind = "both refuse" if "error" in g else "differs"
            elif "error" in g:
                kind = "refused"
            else:
                kind = "equal" if g["text"] == text else "differs"
            count[kind] += 1
            if verbose and (kind in ("refused", "differs") or "-vv" in sys.argv):
                print(f"  {name} / {case}: {kind}\n    drover {g.get('error') or repr(g.get('text'))}\n"
                      f"    jinja2 {error or repr(text)}")
        for k in total:
            total[k] += count[k]
        rendered += count["equal"] > 0 and not count["differs"]
        whole += not count["refused"] and not count["differs"]
        if count["refused"] or count["differs"]:
            print(f"{name}: {count}")
    pairs = sum(total.values())
    ok = total["equal"] + total["both refuse"]
    print(f"{n_templates} templates x {len(c)} conversations = {pairs} pairs: {total}")
    print(f"agree {ok} ({100 * ok / max(1, pairs):.2f} %), templates rendered {rendered}, "
          f"in all their conversations {whole}; jinja2 {jinja2.__version__}, transformers "
          f"{transformers.__version__}, Python {sys.version.split()[0]}")
    return 1 if total["differs"] else 0


if __name__ == "__main__":
    sys.exit(main())
