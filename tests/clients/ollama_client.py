#!/usr/bin/env python3
"""Ollama's own Python package against drover serve: ollama_client.py URL KEY"""
# needs: ollama
import json, math, sys
import ollama
from importlib.metadata import version

url, key = sys.argv[1], sys.argv[2]
c = ollama.Client(host=url, headers={"Authorization": "Bearer " + key})
tests = []
HI = [{"role": "user", "content": "Name three colours."}]
GREEDY = {"temperature": 0, "num_predict": 12}
model = ""


def test(f):
    tests.append(f)
    return f


def refused(status, text, f, **k):
    try:
        r = f(**k)
        if k.get("stream"):
            list(r)
    except ollama.ResponseError as e:
        assert e.status_code == status and text in e.error, (e.status_code, e.error)
        return
    raise AssertionError("it was not refused")


@test
def models():
    m = c.list().models[0]
    assert m.model.endswith(":latest") and m.size > 1 << 20 and m.modified_at.year > 2000 and len(m.digest) == 64, m
    assert m.details.family == "llama" and m.details.parameter_size == "135M" and m.details.format == "gguf", m.details
    s = c.show(m.model)
    assert s.modelinfo["llama.context_length"] == 8192 and "completion" in s.capabilities and s.template, s
    p = c.ps().models
    assert [x.model for x in p] == [m.model] and p[0].context_length == 4096, p
    assert c.pull(m.model).status == "success"


@test
def chat():
    r = c.chat(model, messages=HI, options=GREEDY)
    assert r.done and r.done_reason == "length" and r.message.role == "assistant" and r.message.content, r
    assert r.eval_count == 12 and r.prompt_eval_count > 10 and r.total_duration > 0 and r.eval_duration > 0, r
    parts = list(c.chat(model, messages=HI, options=GREEDY, stream=True))
    assert "".join(p.message.content for p in parts) == r.message.content
    assert [p.done for p in parts].count(True) == 1 and parts[-1].done and parts[-1].eval_count == 12


@test
def by_short_name():
    assert c.chat(model.removesuffix(":latest"), messages=HI, options=GREEDY).message.content


@test
def generate():
    r = c.generate(model, "Name three colours.", system="Be brief.", options=GREEDY)
    assert r.response and r.done_reason == "length", r
    again = "".join(p.response for p in c.generate(model, "Name three colours.", system="Be brief.", options=GREEDY,
                                                   stream=True))
    assert again == r.response
    raw = c.generate(model, "The capital of France is", raw=True, options={"temperature": 0, "num_predict": 4})
    assert "Paris" in raw.response, raw.response
    assert c.generate(model, "").done_reason == "load"


@test
def seeds_and_stops():
    o = {"temperature": 1.2, "seed": 5, "num_predict": 16, "top_k": 50, "top_p": 0.9, "repeat_penalty": 1.1}
    a, b = (c.chat(model, messages=HI, options=o).message.content for _ in range(2))
    assert a == b
    r = c.chat(model, messages=HI, options={"temperature": 0, "num_predict": 200, "stop": ["Red", "red", "."]})
    assert r.done_reason == "stop" and "." not in r.message.content, r


@test
def forms():
    form = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 120}},
            "required": ["age"], "additionalProperties": False}
    v = json.loads(c.chat(model, messages=HI, format=form, options={"temperature": 0, "num_predict": 40}).message.content)
    assert 0 <= v["age"] <= 120
    v = json.loads(c.generate(model, "Reply with JSON.", format="json", options={"temperature": 0, "num_predict": 60}).response)
    assert isinstance(v, dict)


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
      a: one
      b: the other
    """
    return a + b


@test
def tools():
    ask = [{"role": "user", "content": "What is 3 and 4?"}]
    r = c.chat(model, messages=ask, tools=[add], options={"temperature": 0, "num_predict": 60})
    assert r.message.role == "assistant" and (r.message.tool_calls or r.message.content)
    ask += [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 3, "b": 4}}}]},
            {"role": "tool", "tool_name": "add", "content": "7"}]
    r = c.chat(model, messages=ask, tools=[add], options=GREEDY)
    assert r.message.content


@test
def logprobs():
    r = c.chat(model, messages=HI, options={"temperature": 0, "num_predict": 3}, logprobs=True, top_logprobs=2)
    assert len(r.logprobs) == 3 and all(len(x.top_logprobs) == 2 and x.logprob <= 0 for x in r.logprobs), r.logprobs
    assert "".join(x.token for x in r.logprobs) == r.message.content
    parts = list(c.chat(model, messages=HI, options={"temperature": 0, "num_predict": 3}, logprobs=True, stream=True))
    assert sum(len(p.logprobs or []) for p in parts) == 3


@test
def embeddings():
    r = c.embed(model, ["The cat sat.", "A cat was sitting.", "Stock prices fell."])
    assert len(r.embeddings) == 3 and r.prompt_eval_count > 6
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    a, b, d = r.embeddings
    assert all(math.isclose(dot(v, v), 1, abs_tol=1e-3) for v in (a, b, d)) and dot(a, b) > dot(a, d)
    one = c.embeddings(model, "The cat sat.").embedding
    assert max(abs(x - y) for x, y in zip(one, a)) < 1e-6


@test
def refusals():
    refused(404, "nobody", c.chat, model="nobody", messages=HI)
    refused(404, "nobody", c.chat, model="nobody", messages=HI, stream=True)
    refused(404, "drover get", c.pull, model="nobody")
    refused(400, "temprature", c.chat, model=model, messages=HI, options={"temprature": 1})
    refused(400, "mirostat", c.chat, model=model, messages=HI, options={"mirostat": 2})
    refused(400, "images", c.chat, model=model, messages=[{"role": "user", "content": "x", "images": ["AAAA"]}])
    refused(400, "thinking", c.chat, model=model, messages=HI, think=True)
    refused(400, "tokens; the context", c.chat, model=model, messages=[{"role": "user", "content": "word " * 20000}])
    refused(501, "/api/delete", c.delete, model=model)
    refused(401, "key", ollama.Client(host=url).chat, model=model, messages=HI)


@test
def loading():
    assert c.chat(model, messages=[], keep_alive=0).done_reason == "unload"
    assert c.ps().models == []
    assert c.chat(model, messages=HI, options=GREEDY).message.content
    assert len(c.ps().models) == 1


def main():
    global model
    model, failed = c.list().models[0].model, 0
    for t in tests:
        try:
            t()
        except Exception as e:
            failed += 1
            print(f"FAIL ollama: {t.__name__}: {type(e).__name__}: {str(e)[:600]}")
    print(f"ollama {version('ollama')}: {len(tests) - failed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
