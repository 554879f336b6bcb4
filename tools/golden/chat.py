#!/usr/bin/env python3
"""chat.py - prompts as the reference renderers write them, for tests/golden/chat.c.
usage: tools/golden/chat.py hf TEMPLATES TOKENIZERS OUT.json
           TEMPLATES: folder of KIND.jinja; TOKENIZERS: folder with llama3_1_hf and llama2_hf
       tools/golden/chat.py meta OUT.json           (needs the package llama-models)
OUT.txt beside it records versions and the templates' SHA-256."""
import hashlib, json, sys
from importlib.metadata import version
from pathlib import Path

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Current weather of a city, in °C",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "e.g. \"Zürich\""},
        "days": {"type": "integer", "minimum": 1, "default": 3}, "units": {"type": "string", "enum": ["metric", "imperial"]}},
        "required": ["city"]}}}
ODD = {"type": "function", "function": {"name": "odd", "parameters": {"a": [], "b": {}, "c": None, "d": [True, False, 1.0, -0.5,
    1e-7, 1e16, 123456789012, 0.1, 1.5e300, 100000.0, 2e-05, 0.0001, -0.0], "e": "tab\tquote\"back\\ nl\n ctl\x01 \u007f é 漢 😀 </script>"}}}
U, A, S = (lambda r: lambda c: {"role": r, "content": c})("user"), (lambda c: {"role": "assistant", "content": c}), (lambda c: {"role": "system", "content": c})
def T(c, role="tool", id=None):
    return {"role": role, "content": c, **({"tool_call_id": id} if id else {})}
def C(name, args, id=None):
    return {"role": "assistant", "tool_calls": [{**({"id": id} if id else {}), "type": "function", "function": {"name": name, "arguments": args}}]}

TALK = {
    "hi": [U("Hello")],
    "system": [S("You are a pirate."), U("Hello")],
    "turns": [S("Be brief."), U("1+1?"), A("2"), U("2+2?"), A("4"), U("thanks")],
    "spaces": [S("  \n sys \t"), U("\u00a0\u3000 padded \u2003\n\n"), A("  answer  \x1c"), U("x")],
    "empty": [U("")],
    "blank": [S("   "), U(" \n\t "), A(""), U("?")],
    "unicode": [S("Ελληνικά"), U("नमस्ते दुनिया 👩‍👩‍👧 e\u0301"), A("สวัสดี\u200b"), U("\u200bzero width stays\u200b")],
    "lines": [U("a\r\nb\n\n\nc\n"), A("\n\n- one\n- two\n"), U("  code:\n    x = 1")],
    "code": [U("```c\nint main(void) { return 0; }\n```"), A("It returns `0`."), U("{\"json\": [1, 2]}")],
    "dangling": [U("Continue: the"), A("sky is")],
}
TOOL_TALK = {
    "ask": [U("Weather in Zürich?")],
    "ask_system": [S("Use tools. "), U("  Weather? ")],
    "called": [S("s"), U("Weather?"), C("get_weather", {"city": "Zürich", "days": 2}), T("{\"temp\": 21.5}")],
    "answered": [U("q"), C("get_weather", {"city": "\"x\"\n"}), T("sunny \"and\" warm\n", "ipython"), A("It is sunny."), U("thanks")],
    "no_args": [U("q"), C("ping", {})],
    "nested": [U("q"), C("f", {"a": {"b": [1, 2.5, None, True]}, "c": "漢😀"})],
}
def kinds_hf():
    for k in ("llama3", "llama3.2", "llama3.3"):
        for n, m in TALK.items():
            if k != "llama3.3" or n in ("hi", "turns"):
                yield k, n, m, {"date": "23 Nov 2026"} if k == "llama3.2" else {}
        for n, m in TOOL_TALK.items():
            yield k, n, m, {"tools": [WEATHER], "date": "01 Jan 2025"}
        yield k, "odd", TOOL_TALK["ask"], {"tools": [ODD, WEATHER], "date": "d"}
        yield k, "odd_system", TOOL_TALK["ask_system"], {"tools": [WEATHER, ODD], "tools_in_system": True, "date": "d"}
        yield k, "no_tools", [U("x")], {"tools": [], "date": "d"}
        yield k, "two_calls", [U("q"), {"role": "assistant", "tool_calls": [C("a", {})["tool_calls"][0]] * 2}], {"tools": [WEATHER], "date": "d"}
        yield k, "no_user", [S("x")], {"tools": [WEATHER], "date": "d"}
        yield k, "system_only", [S("x")], {"date": "d"}
        yield k, "no_generation", TALK["turns"], {"date": "d", "no_generation_prompt": True}
        yield k, "history_without_tools", TOOL_TALK["called"], {"date": "d"}
    B = {"builtin_tools": ["brave_search", "wolfram_alpha"]}
    yield "llama3", "builtin", [S("s"), U("price of gold?")], B
    yield "llama3", "builtin_code", [U("prime?")], {"builtin_tools": ["code_interpreter"]}
    yield "llama3", "builtin_all", [U("prime?")], {"builtin_tools": ["code_interpreter", "brave_search"]}
    yield "llama3", "builtin_call", [U("gold?"), C("brave_search", {"query": "gold \"price\""}), T("2000"), A("2000 USD."), U("more")], B
    yield "llama3", "builtin_two_args", [U("gold?"), C("brave_search", {"query": "a", "lang": "de"}), T("[]")], B
    yield "llama3", "builtin_number", [U("gold?"), C("brave_search", {"query": 3})], B
    yield "llama3", "builtin_and_custom", [U("w?"), C("get_weather", {"city": "Rome"}), T("21")], {**B, "tools": [WEATHER]}
    for k in ("llama3.0", "llama3.0b", "chatml", "smollm2", "zephyr", "llama2", "mistral", "mistral-v0", "mistral-v0.1", "mistral-v3"):
        for n, m in TALK.items():
            yield k, n, m, {}
        if k in ("llama2", "mistral", "mistral-v0", "mistral-v0.1", "mistral-v3"):
            yield k, "two_users", [U("a"), U("b")], {}
            yield k, "assistant_first", [A("a")], {}
    tools = [U("w?"), C("get_weather", {"city": "Zürich", "n": 1.0}, "abcdef123"), T("{\"temp\": 1}", id="abcdef123")]
    yield "mistral-v3", "tools", tools[:1], {"tools": [WEATHER]}
    yield "mistral-v3", "two_tools", [S("sys")] + tools[:1], {"tools": [WEATHER, ODD]}
    yield "mistral-v3", "called", tools, {"tools": [WEATHER]}
    yield "mistral-v3", "answered", tools + [A(" done "), U("w?")], {"tools": [WEATHER]}
    yield "mistral-v3", "short_id", [U("w?"), C("f", {}, "abc")], {"tools": [WEATHER]}

def hf(templates, tokenizers, out):
    import tokenizers as tk
    from transformers import PreTrainedTokenizerFast
    def plain(bos, eos):
        return PreTrainedTokenizerFast(tokenizer_object=tk.Tokenizer(tk.models.BPE()), bos_token=bos, eos_token=eos)
    l3 = PreTrainedTokenizerFast(tokenizer_file=f"{tokenizers}/llama3_1_hf/tokenizer.json", bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")
    l2 = PreTrainedTokenizerFast(tokenizer_file=f"{tokenizers}/llama2_hf/tokenizer.json", bos_token="<s>", eos_token="</s>")
    other = plain("<s>", "</s>")
    chatml = plain("<|im_start|>", "<|im_end|>")
    text = {p.stem: p.read_text() for p in Path(templates).glob("*.jinja")}
    cases = []
    for kind, name, messages, opt in kinds_hf():
        tok = l3 if kind.startswith("llama3") else l2 if kind == "llama2" else chatml if kind in ("chatml", "smollm2") else other
        kw = {"chat_template": text[kind], "add_generation_prompt": not opt.get("no_generation_prompt")}
        if "date" in opt: kw["date_string"] = opt["date"]
        if "builtin_tools" in opt: kw["builtin_tools"] = opt["builtin_tools"]
        if opt.get("tools_in_system"): kw["tools_in_user_message"] = False
        case = {"kind": {"llama3.3": "llama3", "llama3.0b": "llama3.0"}.get(kind, kind), "name": name, "opt": opt, "messages": messages}
        try:
            case["text"] = tok.apply_chat_template(messages, tools=opt.get("tools"), tokenize=False, **kw)
            if kind in ("llama3", "llama2"):
                case["ids"] = tok.apply_chat_template(messages, tools=opt.get("tools"), tokenize=True, return_dict=False, **kw)
        except Exception as e:
            case["error"] = str(e)[:100]
        cases.append(case)
    note = "".join("%s.jinja sha256 %s\n" % (k, hashlib.sha256(t.encode()).hexdigest()) for k, t in sorted(text.items()))
    write(out, cases, "transformers %s, tokenizers %s, jinja2 %s\n" % (version("transformers"), version("tokenizers"), version("jinja2")) + note)

def meta(out):
    from llama_models.llama3.chat_format import ChatFormat
    from llama_models.llama3.tokenizer import Tokenizer
    from llama_models.datatypes import RawMessage, StopReason, ToolCall, BuiltinTool
    tok = Tokenizer.get_instance()
    fmt = ChatFormat(tok)
    ipy = "Environment: ipython\nTools: brave_search, wolfram_alpha\nCutting Knowledge Date: December 2023\nToday Date: 21 September 2024\n\nYou are a helpful assistant.\n"
    talks = dict(TALK)
    talks.update({n: t for n, t in TOOL_TALK.items() if n != "nested"})   # its types refuse a list of mixed kinds
    talks["search"] = [S(ipy), U("gold?"), C("brave_search", {"query": "gold \"price\""}), T("{\n  \"a\": 1\n}"), A("2000"), U("?")]
    talks["code"] = [S("Environment: ipython"), U("7 prime?"), C("code_interpreter", {"code": "print(7)\n# é"}), T("True")]
    talks["custom_ipython"] = [S(ipy), U("w?"), C("get_weather", {"city": "Zürich 漢😀", "n": 1.0}), T("1")]
    cases = []
    for name, messages in talks.items():
        ipython = messages[0]["role"] == "system" and "Environment: ipython" in messages[0]["content"]
        raw = []
        for m in messages:
            calls = []
            for c in m.get("tool_calls", []):
                f = c["function"]
                n = BuiltinTool[f["name"]] if f["name"] in BuiltinTool.__members__ else f["name"]
                calls.append(ToolCall(call_id="0", tool_name=n, arguments=f["arguments"]))
            role = "tool" if m["role"] == "ipython" else m["role"]
            raw.append(RawMessage(role=role, content=m.get("content", ""), tool_calls=calls,
                                  stop_reason=StopReason.end_of_message if calls and ipython else None))
        ids = fmt.encode_dialog_prompt(raw).tokens
        cases.append({"kind": "llama3-meta", "name": name, "opt": {}, "messages": messages, "text": tok.decode(ids), "ids": ids})
    write(out, cases, "llama-models %s, tiktoken %s\n" % (version("llama-models"), version("tiktoken")))

def write(out, cases, note):
    with open(out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
    with open(out.rsplit(".", 1)[0] + ".txt", "w") as f:
        f.write("made by tools/golden/chat.py\n%s%d cases, %d of them errors\n" % (note, len(cases), sum("error" in c for c in cases)))

globals()[sys.argv[1]](*sys.argv[2:])
