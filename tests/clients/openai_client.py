#!/usr/bin/env python3
"""OpenAI's own Python package against drover serve: openai_client.py URL KEY
Every answer goes through the package's types (pydantic), strictly checked where the package is lax."""
# needs: openai
import base64, json, math, struct, sys
import openai
from openai import OpenAI

url, key = sys.argv[1], sys.argv[2]
c = OpenAI(base_url=url + "/v1", api_key=key, max_retries=0)
model = c.models.list().data[0].id
tests, failed = [], []


def test(f):
    tests.append(f)
    return f


def strict(obj):
    """The package builds objects of anything; this validates them against their own types."""
    t = type(obj)
    t.model_validate(obj.model_dump(by_alias=True), strict=False)
    return obj


HI = [{"role": "user", "content": "Name three colours."}]
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city", "strict": True,
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["c", "f"]}},
        "required": ["city", "unit"], "additionalProperties": False}}}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
          "age": {"type": "integer", "minimum": 0, "maximum": 150}},
          "required": ["name", "age"], "additionalProperties": False}


def chat(**k):
    k.setdefault("messages", HI)
    k.setdefault("max_tokens", 16)
    k.setdefault("temperature", 0)
    return c.chat.completions.create(model=model, **k)


@test
def models():
    m = strict(c.models.retrieve(model))
    assert m.id == model and m.object == "model" and m.created > 0
    try:
        c.models.retrieve("none")
        assert False
    except openai.NotFoundError as e:
        assert e.code == "model_not_found", e.code


@test
def key_is_asked_for():
    try:
        OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list()
        assert False
    except openai.AuthenticationError:
        pass


@test
def chat_whole():
    r = strict(chat())
    assert r.object == "chat.completion" and r.choices[0].message.role == "assistant"
    assert r.choices[0].message.content and r.choices[0].finish_reason in ("stop", "length")
    u = r.usage
    assert u.completion_tokens <= 16 and u.total_tokens == u.prompt_tokens + u.completion_tokens
    again = chat()
    assert again.choices[0].message.content == r.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens > 0


@test
def chat_stream():
    whole = chat().choices[0]
    text, finish, usage, roles = "", None, None, 0
    for x in chat(stream=True, stream_options={"include_usage": True}):
        strict(x)
        if x.usage:
            usage = x.usage
        for ch in x.choices:
            text += ch.delta.content or ""
            roles += ch.delta.role == "assistant"
            finish = ch.finish_reason or finish
    assert text == whole.message.content and finish == whole.finish_reason and roles == 1
    assert usage and usage.completion_tokens


@test
def several():
    r = strict(chat(n=3, temperature=1.0, seed=5))
    assert [x.index for x in r.choices] == [0, 1, 2]
    again = chat(n=3, temperature=1.0, seed=5)
    assert [x.message.content for x in r.choices] == [x.message.content for x in again.choices]
    assert len({x.message.content for x in r.choices}) > 1
    text = [""] * 3
    for x in chat(n=3, temperature=1.0, seed=5, stream=True):
        for ch in x.choices:
            text[ch.index] += ch.delta.content or ""
    assert text == [x.message.content for x in r.choices]
    one = chat(temperature=1.0, seed=5).choices[0].message.content
    assert one == r.choices[0].message.content


@test
def logprobs():
    r = strict(chat(logprobs=True, top_logprobs=3, max_tokens=8))
    lp = r.choices[0].logprobs.content
    assert len(lp) == r.usage.completion_tokens
    for t in lp:
        assert t.logprob <= 0 and len(t.top_logprobs) == 3
        assert bytes(t.bytes).decode("utf-8", "replace") == t.token
        assert t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob
        assert t.token == t.top_logprobs[0].token
    assert b"".join(bytes(t.bytes) for t in lp).decode().startswith(r.choices[0].message.content)
    streamed = []
    for x in chat(logprobs=True, top_logprobs=3, max_tokens=8, stream=True):
        for ch in x.choices:
            if ch.logprobs:
                streamed += ch.logprobs.content
    assert [x.model_dump() for x in streamed] == [x.model_dump() for x in lp]


@test
def end_token_counts():
    """The id that ends an answer is counted, and has its log-probability."""
    r = chat(logprobs=True, max_tokens=400, messages=[{"role": "user", "content": "Say yes."}])
    if r.choices[0].finish_reason == "stop":
        assert len(r.choices[0].logprobs.content) == r.usage.completion_tokens
        assert r.choices[0].logprobs.content[-1].token.startswith("<|")


@test
def stop():
    text = chat(max_tokens=40).choices[0].message.content
    word = text.split()[3]
    r = chat(max_tokens=40, stop=[word])
    assert r.choices[0].finish_reason == "stop"
    assert r.choices[0].message.content == text[:text.index(word)]
    streamed = "".join(x.choices[0].delta.content or "" for x in chat(max_tokens=40, stop=word, stream=True))
    assert streamed == r.choices[0].message.content
    r = chat(max_tokens=40, stop=[word], extra_body={"include_stop_str_in_output": True})
    assert r.choices[0].message.content == text[:text.index(word) + len(word)]


@test
def bias():
    first = chat(max_tokens=1, logprobs=True).choices[0].logprobs.content[0]
    r = c.post("/../tokenize", body={"content": first.token, "model": model}, cast_to=object)
    ids = r.get("tokens") or r.get("ids")
    other = chat(max_tokens=1, logprobs=True, logit_bias={str(ids[-1]): -100}).choices[0].logprobs.content[0]
    assert other.token != first.token
    always = chat(max_tokens=3, logit_bias={str(ids[-1]): 100}).choices[0].message.content
    assert always == first.token * 3 or always.strip() == (first.token * 3).strip(), always


@test
def limits():
    r = chat(max_completion_tokens=3, max_tokens=openai.NOT_GIVEN)
    assert r.usage.completion_tokens == 3 and r.choices[0].finish_reason == "length"
    r = chat(max_tokens=5, extra_body={"ignore_eos": True, "min_tokens": 5})
    assert r.usage.completion_tokens == 5
    hot = {chat(temperature=1.5, max_tokens=8).choices[0].message.content for _ in range(4)}
    assert len(hot) > 1                                   # no seed: a new one each time
    one = {chat(temperature=1.5, max_tokens=8, extra_body={"top_k": 1}).choices[0].message.content for _ in range(3)}
    assert len(one) == 1


@test
def json_object():
    for _ in range(2):
        r = chat(response_format={"type": "json_object"}, max_tokens=60, temperature=1.0)
        assert isinstance(json.loads(r.choices[0].message.content), dict)


@test
def json_schema():
    f = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
    for seed in range(3):
        r = strict(chat(response_format=f, max_tokens=60, temperature=1.0, seed=seed))
        v = json.loads(r.choices[0].message.content)
        assert set(v) == {"name", "age"} and 0 <= v["age"] <= 150 and len(v["name"]) <= 12


@test
def json_schema_parsed():
    from pydantic import BaseModel

    class Person(BaseModel):
        name: str
        age: int

    r = c.chat.completions.parse(model=model, messages=HI, response_format=Person, max_tokens=100, temperature=0)
    assert isinstance(r.choices[0].message.parsed, Person)


@test
def grammar_and_regex():
    r = chat(extra_body={"grammar": 'root ::= "yes" | "no"'})
    assert r.choices[0].message.content in ("yes", "no")
    r = chat(extra_body={"regex": "(19|20)[0-9]{2}"})
    assert len(r.choices[0].message.content) == 4


def check_call(t):
    assert t.type == "function" and t.id.startswith("call_") and t.function.name == "get_weather"
    a = json.loads(t.function.arguments)
    assert set(a) == {"city", "unit"} and a["unit"] in "cf"


@test
def tools_required():
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        r = strict(chat(tools=[WEATHER], tool_choice=choice, max_tokens=120, temperature=1.0, seed=1,
                        parallel_tool_calls=False))
        m = r.choices[0].message
        assert r.choices[0].finish_reason == "tool_calls" and len(m.tool_calls) == 1 and m.content is None
        check_call(m.tool_calls[0])


@test
def tools_stream():
    k = dict(tools=[WEATHER], tool_choice="required", max_tokens=120, temperature=1.0, seed=1,
             parallel_tool_calls=False)
    whole = chat(**k).choices[0].message.tool_calls[0].function
    name, args, ids, finish, pieces = "", "", [], None, 0
    for x in chat(stream=True, **k):
        strict(x)
        for ch in x.choices:
            finish = ch.finish_reason or finish
            for t in ch.delta.tool_calls or []:
                assert t.index == 0
                if t.id:
                    ids.append(t.id)
                    name += t.function.name
                pieces += bool(t.function.arguments)
                args += t.function.arguments or ""
    assert (name, args) == (whole.name, whole.arguments) and len(ids) == 1 and finish == "tool_calls"
    assert pieces > 1, "arguments come while they are made"


@test
def tools_parallel():
    for seed in range(8):
        r = chat(tools=[WEATHER], tool_choice="required", max_tokens=300, temperature=1.3, seed=seed)
        calls = r.choices[0].message.tool_calls or []
        if r.choices[0].finish_reason == "tool_calls":
            assert calls and len({t.id for t in calls}) == len(calls)
            for t in calls:
                check_call(t)


@test
def tools_round():
    r = chat(tools=[WEATHER], tool_choice="required", max_tokens=120, temperature=1.0, seed=1)
    m = r.choices[0].message
    talk = HI + [m] + [{"role": "tool", "tool_call_id": t.id, "content": "sunny"} for t in m.tool_calls]
    r = chat(messages=talk, tools=[WEATHER], tool_choice="none")
    assert r.choices[0].message.content is not None and not r.choices[0].message.tool_calls
    r = chat(messages=talk, tools=[WEATHER])
    strict(r)


@test
def messages_of_many_kinds():
    r = chat(messages=[{"role": "developer", "content": "Be short."},
                       {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "you"}]},
                       {"role": "assistant", "content": "Hi", "name": "bot"}, {"role": "user", "content": "Go on"}])
    assert r.choices[0].message.content
    r = chat(messages=HI + [{"role": "assistant", "content": "The three colours are"}],
             extra_body={"continue_final_message": True})
    assert r.choices[0].message.content


@test
def completions():
    r = strict(c.completions.create(model=model, prompt="One two three", max_tokens=4, temperature=0))
    assert r.object == "text_completion" and r.choices[0].text and r.usage.completion_tokens == 4
    ids = c.post("/../tokenize", body={"content": "One two three", "model": model}, cast_to=object)
    ids = ids.get("tokens") or ids.get("ids")
    same = c.completions.create(model=model, prompt=ids, max_tokens=4, temperature=0)
    assert same.choices[0].text == r.choices[0].text
    many = strict(c.completions.create(model=model, prompt=["One two three", "A b c"], n=2, max_tokens=4, temperature=0))
    assert [x.index for x in many.choices] == [0, 1, 2, 3]
    assert many.choices[0].text == many.choices[1].text == r.choices[0].text
    lists = c.completions.create(model=model, prompt=[ids, ids], max_tokens=4, temperature=0)
    assert [x.text for x in lists.choices] == [r.choices[0].text] * 2
    text = "".join(x.choices[0].text for x in c.completions.create(
        model=model, prompt="One two three", max_tokens=4, temperature=0, stream=True))
    assert text == r.choices[0].text
    forty = c.completions.create(model=model, prompt=["A %d" % i for i in range(40)], max_tokens=2, temperature=0)
    alone = c.completions.create(model=model, prompt="A 39", max_tokens=2, temperature=0)
    assert len(forty.choices) == 40 and forty.choices[39].text == alone.choices[0].text


@test
def echo():
    k = dict(model=model, prompt="One two three four", temperature=0, logprobs=2)
    r = c.completions.create(max_tokens=3, echo=True, **k)    # of the first token null, which the types leave out
    p = r.choices[0].logprobs
    n = r.usage.prompt_tokens + r.usage.completion_tokens
    assert len(p.tokens) == len(p.token_logprobs) == len(p.top_logprobs) == len(p.text_offset) == n
    assert r.choices[0].text.startswith("One two three four") and "".join(p.tokens) == r.choices[0].text
    assert p.token_logprobs[0] is None and all(x <= 0 for x in p.token_logprobs[1:])
    for t, at in zip(p.tokens, p.text_offset):
        assert r.choices[0].text[at:at + len(t)] == t
    none = c.completions.create(max_tokens=0, echo=True, **k)
    m = none.usage.prompt_tokens
    assert none.choices[0].text == "One two three four" and none.choices[0].logprobs.token_logprobs == p.token_logprobs[:m]
    # what a prompt's token got is what it would have got as a reply
    plain = c.completions.create(max_tokens=3, **k)
    ids = c.post("/../tokenize", body={"content": r.choices[0].text, "model": model}, cast_to=object)
    ids = ids.get("tokens") or ids.get("ids")
    longer = c.completions.create(model=model, prompt=ids, temperature=0, logprobs=2, echo=True, max_tokens=0)
    if len(ids) == n:
        assert longer.choices[0].logprobs.token_logprobs[m:] == plain.choices[0].logprobs.token_logprobs


@test
def embeddings():
    r = strict(c.embeddings.create(model=model, input=["a cat", "a dog", "a cat"], encoding_format="float"))
    assert [x.index for x in r.data] == [0, 1, 2] and r.usage.prompt_tokens > 0
    v = r.data[0].embedding
    assert abs(sum(x * x for x in v) - 1) < 1e-5 and r.data[2].embedding == v != r.data[1].embedding
    packed = c.embeddings.create(model=model, input="a cat")          # base64 under the hood
    assert all(abs(a - b) < 1e-7 for a, b in zip(packed.data[0].embedding, v))
    raw = c.embeddings.with_raw_response.create(model=model, input="a cat", encoding_format="base64")
    text = json.loads(raw.text)["data"][0]["embedding"]
    assert len(struct.unpack("<%df" % len(v), base64.b64decode(text))) == len(v)
    last = c.embeddings.create(model=model, input="a cat", extra_body={"pooling": "last"}).data[0].embedding
    assert max(abs(a - b) for a, b in zip(last, v)) > 1e-3
    assert math.isfinite(sum(last))


@test
def responses():
    r = strict(c.responses.create(model=model, input="Name three colours.", max_output_tokens=16, temperature=0))
    same = chat().choices[0].message.content
    assert r.output_text == same and r.object == "response"
    assert r.status == ("incomplete" if r.usage.output_tokens == 16 else "completed")
    text, kinds, last = "", [], -1
    for e in c.responses.create(model=model, input="Name three colours.", max_output_tokens=16, temperature=0,
                                stream=True):
        strict(e)
        kinds.append(e.type)
        assert e.sequence_number == last + 1
        last = e.sequence_number
        if e.type == "response.output_text.delta":
            text += e.delta
    assert text == same and kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    for k in ("response.in_progress", "response.output_item.added", "response.content_part.added",
              "response.output_text.done", "response.content_part.done", "response.output_item.done"):
        assert kinds.count(k) == 1, k
    with c.responses.stream(model=model, input="Name three colours.", max_output_tokens=16, temperature=0) as s:
        assert any(e.type == "response.output_text.delta" for e in s)


@test
def responses_tools():
    tool = {"type": "function", **WEATHER["function"]}
    k = dict(model=model, tools=[tool], tool_choice="required", max_output_tokens=120, temperature=1.0,
             parallel_tool_calls=False, extra_body={"seed": 1})
    r = strict(c.responses.create(input="Weather in Oslo?", **k))
    call = [x for x in r.output if x.type == "function_call"][0]
    a = json.loads(call.arguments)
    assert call.name == "get_weather" and set(a) == {"city", "unit"} and call.call_id.startswith("call_")
    args, done = "", None
    for e in c.responses.create(input="Weather in Oslo?", stream=True, **k):
        strict(e)
        if e.type == "response.function_call_arguments.delta":
            args += e.delta
        if e.type == "response.function_call_arguments.done":
            done = e.arguments
    assert args == done == call.arguments
    r = strict(c.responses.create(model=model, instructions="Be short.", max_output_tokens=8, temperature=0, tools=[tool],
                                  tool_choice="none", input=[
        {"role": "user", "content": [{"type": "input_text", "text": "Weather in Oslo?"}]}, call.model_dump(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]))
    assert r.output_text is not None and r.instructions == "Be short."
    r = c.responses.create(model=model, input="A person", max_output_tokens=60, temperature=0, text={"format": {
        "type": "json_schema", "name": "person", "strict": True, "schema": SCHEMA}})
    assert set(json.loads(r.output_text)) == {"name", "age"}


@test
def refused_by_name():
    bad = [
        (dict(extra_body={"max_tokns": 3}), "max_tokns"), (dict(temperature=3), "temperature"),
        (dict(top_p=1.5), "top_p"), (dict(n=0), "n"), (dict(n=1000), "n"), (dict(stop=[""]), "stop"),
        (dict(top_logprobs=3), "top_logprobs"), (dict(logprobs=True, top_logprobs=99), "top_logprobs"),
        (dict(logit_bias={"x": 1}), "logit_bias"), (dict(logit_bias={"99999999": 1}), "logit_bias"),
        (dict(max_tokens=-1), "max_tokens"), (dict(functions=[{"name": "a"}]), "functions"),
        (dict(function_call="auto"), "function_call"), (dict(modalities=["audio"]), "modalities"),
        (dict(audio={"voice": "a", "format": "wav"}), "audio"), (dict(store=True), "store"),
        (dict(web_search_options={"search_context_size": "low"}), "web_search_options"),
        (dict(prediction={"type": "content", "content": "a"}), "prediction"),
        (dict(reasoning_effort="low"), "reasoning_effort"), (dict(service_tier="flex"), "service_tier"),
        (dict(messages=[]), "messages"), (dict(messages=[{"role": "user"}]), "messages"),
        (dict(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]), "messages"),
        (dict(tools=[{"type": "custom", "custom": {"name": "x"}}]), "tools"),
        (dict(tool_choice="required"), "tool_choice"), (dict(response_format={"type": "xml"}), "response_format"),
        (dict(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"if": {}}}}),
         "response_format"),
        (dict(extra_body={"grammar": "root ::= none"}), "grammar"),
        (dict(extra_body={"response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'}), "grammar"),
        (dict(messages=[{"role": "user", "content": "x " * 9000}]), "messages"),
    ]
    for k, param in bad:
        try:
            chat(**k)
        except openai.BadRequestError as e:
            assert e.param == param, (k, e.param, e.message)
            assert e.body and e.body["message"] and e.type == "invalid_request_error", e.body
            if "x x" in str(k):
                assert e.code == "context_length_exceeded"
            continue
        raise AssertionError("not refused: %s" % str(k)[:100])
    for k, param in ((dict(suffix="x"), "suffix"), (dict(best_of=3, n=1), "best_of"), (dict(prompt=[]), "prompt"),
                     (dict(prompt=[[999999999]]), "prompt"), (dict(logprobs=99), "logprobs")):
        try:
            c.completions.create(**{"model": model, "prompt": "a", **k})
        except openai.BadRequestError as e:
            assert e.param == param, (k, e.param)
            continue
        raise AssertionError("not refused: %s" % k)
    for k, param in ((dict(previous_response_id="x"), "previous_response_id"), (dict(background=True), "background"),
                     (dict(truncation="auto"), "truncation"), (dict(tools=[{"type": "web_search"}]), "tools"),
                     (dict(input=[{"type": "item_reference", "id": "x"}]), "input")):
        try:
            c.responses.create(**{"model": model, "input": "a", **k})
        except openai.BadRequestError as e:
            assert e.param == param, (k, e.param)
            continue
        raise AssertionError("not refused: %s" % k)
    try:
        c.embeddings.create(model=model, input="a", dimensions=3)
        assert False
    except openai.BadRequestError as e:
        assert e.param == "dimensions"
    try:
        c.chat.completions.create(model="none", messages=HI)
        assert False
    except openai.NotFoundError as e:
        assert e.code == "model_not_found"


@test
def every_field_of_the_package_is_known():
    """What the package can send is honoured, or refused as not supported: never as unknown."""
    from openai.types.chat import completion_create_params as chat_params
    from openai.types import completion_create_params as text_params, embedding_create_params as embed_params
    from openai.types.responses import response_create_params as response_params
    import httpx
    for route, t in (("chat/completions", chat_params.CompletionCreateParamsBase),
                     ("completions", text_params.CompletionCreateParamsBase),
                     ("embeddings", embed_params.EmbeddingCreateParams),
                     ("responses", response_params.ResponseCreateParamsBase)):
        for name in list(t.__annotations__) + ["stream"] * (route != "embeddings"):
            r = httpx.post("%s/v1/%s" % (url, route), headers={"Authorization": "Bearer " + key},
                           json={"model": model, name: {"no": "such value"}}).json()
            assert "known here" not in r["error"]["message"], (route, r)


for f in tests:
    try:
        f()
    except Exception as e:                                # the whole list is worth seeing
        failed.append(f.__name__)
        print("openai: %s: %s: %s" % (f.__name__, type(e).__name__, str(e)[:600]))
        if "-v" in sys.argv:
            import traceback
            traceback.print_exc()
print("openai %s: %d passed, %d failed" % (openai.__version__, len(tests) - len(failed), len(failed)))
sys.exit(bool(failed))
