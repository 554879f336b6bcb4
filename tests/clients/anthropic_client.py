#!/usr/bin/env python3
"""Anthropic's own Python package against drover serve: anthropic_client.py URL KEY
What comes back is validated against the package's types, which builds objects of anything by itself."""
# needs: anthropic
import sys
import anthropic
from anthropic import Anthropic

url, key = sys.argv[1], sys.argv[2]
c = Anthropic(base_url=url, api_key=key, max_retries=0)
tests = []
HI = [{"role": "user", "content": "Name three colours."}]
WEATHER = {"name": "get_weather", "description": "The weather of a city", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["c", "f"]}},
    "required": ["city", "unit"], "additionalProperties": False}}


def test(f):
    tests.append(f)
    return f


def strict(obj):
    type(obj).model_validate(obj.model_dump(by_alias=True, mode="json"))
    assert not (obj.model_extra or {}), obj.model_extra
    return obj


def body(k):
    """With what the package no longer has an argument for."""
    extra = {"temperature": 0, **k.pop("extra_body", {})}
    return {"model": "", "messages": HI, "max_tokens": 16, **k, "extra_body": extra}


def create(**k):
    return c.messages.create(**body(k))


def refused(kind, text, **k):
    try:
        create(**k)
    except kind as e:
        assert e.body["type"] == "error" and text in e.body["error"]["message"], e.body
        return e
    raise AssertionError("it was not refused")


@test
def message():
    m = strict(create())
    assert m.type == "message" and m.role == "assistant" and m.content[0].type == "text" and m.content[0].text
    assert m.stop_reason == "max_tokens" and m.usage.output_tokens == 16, m
    again = strict(create())
    assert again.content == m.content and again.id != m.id
    total = lambda u: u.input_tokens + u.cache_read_input_tokens
    assert again.usage.cache_read_input_tokens > 0 and total(again.usage) == total(m.usage)


@test
def models():
    m = list(c.models.list())
    assert m and m[0].type == "model" and m[0].display_name == m[0].id and m[0].created_at.year > 2000, m
    type(m[0]).model_validate(m[0].model_dump(mode="json"))
    assert c.models.retrieve(m[0].id).id == m[0].id
    try:
        c.models.retrieve("nobody")
    except anthropic.NotFoundError:
        return
    raise AssertionError("there is a model nobody")


@test
def counting():
    n = strict(c.messages.count_tokens(model="", messages=HI)).input_tokens
    u = create(max_tokens=1).usage
    assert n == u.input_tokens + u.cache_read_input_tokens, (n, u)
    more = c.messages.count_tokens(model="", messages=HI, tools=[WEATHER], system="Be brief.").input_tokens
    assert more > n + 20


@test
def streamed():
    with c.messages.stream(**body({"max_tokens": 24})) as s:
        kinds, text = [], ""
        for e in s:
            kinds.append(e.type)
            if e.type == "text":
                text += e.text
        last = strict(s.get_final_message())
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop" and "content_block_stop" in kinds, kinds
    whole = create(max_tokens=24)
    assert text == last.content[0].text == whole.content[0].text and last.stop_reason == whole.stop_reason
    assert last.usage.output_tokens == whole.usage.output_tokens == 24


@test
def raw_events():
    events = [strict(e) for e in create(stream=True, max_tokens=4)]
    kinds = [e.type for e in events]
    assert kinds[:2] == ["message_start", "content_block_start"] and kinds[-3:] == ["content_block_stop", "message_delta",
                                                                                    "message_stop"], kinds


@test
def stop_sequence():
    m = strict(create(max_tokens=200, stop_sequences=["Red", "red", "blue", "Blue", "."]))
    assert m.stop_reason == "stop_sequence" and m.stop_sequence in ("Red", "red", "blue", "Blue", ".")
    assert not m.content or m.stop_sequence not in m.content[0].text


@test
def end_of_turn():
    m = strict(create(max_tokens=1000, messages=[{"role": "user", "content": "Say hello."}]))
    assert m.stop_reason == "end_turn" and m.stop_sequence is None


@test
def system_and_sampling():
    sampled = {"temperature": 0.9, "top_p": 0.9, "top_k": 40, "seed": 7}
    a = create(system="You answer with one word.", extra_body=sampled)
    b = create(system=[{"type": "text", "text": "You answer with one word.", "cache_control": {"type": "ephemeral"}}],
               extra_body=sampled)
    assert a.content == b.content


@test
def tools():
    ask = [{"role": "user", "content": "What is the weather in Paris, in c?"}]
    m = strict(create(messages=ask, tools=[WEATHER], tool_choice={"type": "any", "disable_parallel_tool_use": True},
                      max_tokens=100))
    t = m.content[-1]
    assert m.stop_reason == "tool_use" and t.type == "tool_use" and t.name == "get_weather"
    assert set(t.input) == {"city", "unit"} and t.input["unit"] in ("c", "f") and t.id.startswith("toolu_")
    ask += [{"role": "assistant", "content": m.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": t.id, "content": "21 degrees"}]}]
    strict(create(messages=ask, tools=[WEATHER], max_tokens=24))
    ask[-1]["content"][0] = {"type": "tool_result", "tool_use_id": t.id, "is_error": True,
                             "content": [{"type": "text", "text": "no such city"}]}
    strict(create(messages=ask, tools=[WEATHER], tool_choice={"type": "none"}, max_tokens=8))


@test
def tools_streamed():
    with c.messages.stream(**body({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "get_weather"},
                                   "max_tokens": 100})) as s:
        parts = "".join(e.partial_json for e in s if e.type == "input_json")
        m = strict(s.get_final_message())
    assert m.stop_reason == "tool_use" and set(m.content[-1].input) == {"city", "unit"}, m
    assert parts.startswith("{") and parts.endswith("}")


@test
def schema():
    import json
    form = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 120}},
            "required": ["age"], "additionalProperties": False}
    m = strict(create(output_config={"format": {"type": "json_schema", "schema": form}}, max_tokens=40))
    assert 0 <= json.loads(m.content[0].text)["age"] <= 120


@test
def going_on():
    m = strict(create(messages=HI + [{"role": "assistant", "content": "The three colours are red,"}], max_tokens=8))
    assert m.content[0].text and not m.content[0].text.startswith("The three")


@test
def refusals():
    refused(anthropic.NotFoundError, "nobody", model="nobody")
    refused(anthropic.BadRequestError, "temperatur", extra_body={"temperatur": 1})
    refused(anthropic.BadRequestError, "image", messages=[{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]}])
    refused(anthropic.BadRequestError, "web_search", tools=[{"type": "web_search_20250305", "name": "web_search"}])
    refused(anthropic.BadRequestError, "thinking", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})
    refused(anthropic.BadRequestError, "tokens; the context", messages=[{"role": "user", "content": "word " * 20000}])
    try:
        Anthropic(base_url=url, api_key="wrong", max_retries=0).messages.create(model="", messages=HI, max_tokens=1)
    except anthropic.AuthenticationError as e:
        assert e.body["error"]["type"] == "authentication_error"
    else:
        raise AssertionError("a wrong key was taken")


@test
def many_at_once():
    import asyncio
    one = create(max_tokens=12).content

    async def go():
        async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as a:
            return await asyncio.gather(*(a.messages.create(**body({"max_tokens": 12})) for _ in range(8)))
    assert all(m.content == one for m in asyncio.run(go()))


@test
def every_field_is_known():
    from anthropic.types import message_create_params as create_params, message_count_tokens_params as count_params
    for route, t in (("messages", create_params.MessageCreateParamsBase),
                     ("messages/count_tokens", count_params.MessageCountTokensParams)):
        for name in list(t.__annotations__) + ["stream"] * (route == "messages"):
            try:
                c.post("/v1/" + route, body={"model": "", "max_tokens": 1, name: {"no": "such value"}}
                       if route == "messages" else {"model": "", name: {"no": "such value"}}, cast_to=object)
            except anthropic.BadRequestError as e:
                assert "known here" not in e.body["error"]["message"], (name, e.body)


def main():
    failed = 0
    for t in tests:
        try:
            t()
        except Exception as e:
            failed += 1
            print(f"FAIL anthropic: {t.__name__}: {type(e).__name__}: {str(e)[:600]}")
    print(f"anthropic {anthropic.__version__}: {len(tests) - failed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
