"""A stand-in for the server, for what a small model cannot be made to do: it hands out web/ as src/serve/web.c
does and answers by a script that the message names. tests/page/test_page.py starts it; by hand:
python3 tests/page/fake.py PORT"""
import asyncio
import json
import pathlib
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SRC = HERE.parent.parent
POLICY = re.search(r'policy\[\] =\s*((?:"[^\n]*"\s*)+);', (SRC / "src/serve/web.c").read_text()).group(1)
POLICY = "".join(re.findall(r'"([^"]*)"', POLICY))
TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml", "webmanifest": "application/manifest+json"}
SAMPLE = (HERE / "sample.md").read_text()


class State:
    def __init__(self):
        self.key = None
        self.requests = []
        self.cancelled = 0
        self.busy = 0
        self.delay = 0.004
        self.started = time.time()
        self.made = 0
        self.models = [{"id": "tiny", "object": "model", "created": 1, "owned_by": "drover", "max_model_len": 4096}, {"id": "tiny-poet", "object": "model", "created": 1, "owned_by": "drover", "parent": "tiny"}, {"id": "other", "object": "model", "created": 1, "owned_by": "drover"}]


S = State()


def head(status, ctype, length=None, more=""):
    text = {200: "OK", 304: "Not Modified"}.get(status, "Error")
    return (f"HTTP/1.1 {status} {text}\r\nContent-Type: {ctype}\r\nConnection: close\r\n" + (f"Content-Length: {length}\r\n" if length is not None else "") + more + "\r\n").encode()


def chunk(delta, finish=None, **more):
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "tiny", "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def pieces(text, n=3):
    return [text[i:i + n] for i in range(0, len(text), n)]


async def script(rq, send):
    """Stream the reply that the last message asks for."""
    last = rq["messages"][-1]
    said = last["content"] if isinstance(last["content"], str) else ""
    word = said.split()[0] if said.split() else ""
    tokens = 0
    finish = "stop"
    if word == "busy" and S.busy < 2:
        S.busy += 1
        raise Refuse(429, "too many requests wait", "Retry-After: 1\r\n", "rate_limit")
    if word == "error":
        raise Refuse(400, "temperature is 9, wanted 0 to 2", "", "invalid_value")
    if last["role"] == "assistant":
        text = " and so it went on."
    elif last["role"] == "tool":
        text = "The tool said: " + said
    elif word == "tool":
        for i, (name, args) in enumerate([("get_weather", '{"city": "Bern", "days": 2}')] + ([("get_time", '{"zone": "UTC"}')] if "two" in said else [])):
            await send(chunk({"role": "assistant", "tool_calls": [{"index": i, "id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": ""}}]}))
            for p in pieces(args):
                await send(chunk({"tool_calls": [{"index": i, "function": {"arguments": p}}]}))
        text, finish = "", "tool_calls"
    elif word == "md":
        text = SAMPLE
    elif word == "think":
        text = "<think>\nFirst I **weigh** it.\n</think>\n\nThe answer is 4."
    elif word == "long":
        text = "\n\n".join(f"Paragraph {i} with some words in it, enough to fill a line or two of the page." for i in range(60))
    elif word == "evil":
        text = '<script>window.hacked = 1</script><img src=x onerror="window.hacked=1"> [x](javascript:window.hacked=1) ![p](https://evil.example/p.png?leak=1) [y](data:text/html,hi)\n\n```"><img src=x onerror=alert(1)>\nx\n```\n'
    elif word == "echo":
        text = said[5:]
    elif word == "length":
        text, finish = "It was cut", "length"
    else:
        text = "Hello there, this is a reply to “" + said[:40] + "”."
    for p in pieces(text):
        tokens += 1
        S.made += 1
        more = {}
        if rq.get("logprobs"):
            more["logprobs"] = {"content": [{"token": p, "logprob": -0.1 * (tokens % 30), "bytes": list(p.encode()), "top_logprobs": [{"token": p, "logprob": -0.1 * (tokens % 30), "bytes": None}, {"token": "xy", "logprob": -2.5, "bytes": None}]}]}
        await send(chunk({"content": p}, **more))
        if word == "break" and tokens == 6:
            raise ConnectionResetError
        await asyncio.sleep(0.05 if word == "slow" else S.delay)
    await send(chunk({}, finish))
    await send({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": tokens + 1, "total_tokens": 41 + tokens, "prompt_tokens_details": {"cached_tokens": 32}}})


class Refuse(Exception):
    pass


def metrics():
    t = time.time() - S.started
    out = [f'vllm:generation_tokens_total{{model_name="tiny"}} {S.made + int(t * 37)}', f'vllm:prompt_tokens_total{{model_name="tiny"}} {int(t * 210)}', 'vllm:num_requests_running{model_name="tiny"} 3', 'vllm:num_requests_waiting{model_name="tiny"} 1', 'vllm:num_preemptions_total{model_name="tiny"} 0',
           f'vllm:kv_cache_usage_perc{{model_name="tiny"}} {0.3 + 0.1 * (int(t) % 3)}', 'vllm:prefix_cache_queries_total{model_name="tiny"} 1000', 'vllm:prefix_cache_hits_total{model_name="tiny"} 640', f'vllm:request_success_total{{model_name="tiny",finished_reason="stop"}} {int(t)}', 'process_resident_memory_bytes 312000000', f"process_start_time_seconds {S.started}"]
    for name in ("time_to_first_token_seconds", "time_per_output_token_seconds", "e2e_request_latency_seconds"):
        out += [f'vllm:{name}_bucket{{model_name="tiny",le="{le}"}} {int(n * t)}' for le, n in (("0.01", 1), ("0.1", 6), ("1", 10), ("+Inf", 10))]
    return "\n".join(out) + "\n"


async def serve(reader, writer):
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
        lines = raw.decode().split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        heads = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if ":" in line)}
        body = await reader.readexactly(int(heads.get("content-length", 0)))
        path = path.split("?")[0]
        if path == "/" or path.startswith("/web/"):
            f = SRC / "web" / (path[5:] or "index.html")
            if not f.is_file() or "/" in path[5:]:
                writer.write(head(404, "text/plain", 0))
            else:
                data = f.read_bytes()
                writer.write(head(200, TYPES[f.suffix[1:]], len(data), f"Content-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n") + data)
        elif S.key and heads.get("authorization") != "Bearer " + S.key:
            await answer(writer, 401, {"error": {"message": "a key is needed", "type": "invalid_request_error", "code": "invalid_api_key", "param": None}})
        elif path == "/v1/models":
            await answer(writer, 200, {"object": "list", "data": S.models})
        elif path == "/version":
            await answer(writer, 200, {"version": "0.0"})
        elif path == "/metrics":
            data = metrics().encode()
            writer.write(head(200, "text/plain", len(data)) + data)
        elif path == "/v1/chat/completions" and method == "POST":
            rq = json.loads(body)
            S.requests.append(rq)
            started = False

            async def send(v):
                nonlocal started
                if not started:
                    writer.write(head(200, "text/event-stream"))
                    started = True
                if reader.at_eof():
                    raise ConnectionResetError
                writer.write(b"data: " + json.dumps(v).encode() + b"\n\n")
                await writer.drain()
            gone = asyncio.ensure_future(reader.read(1))
            work = asyncio.ensure_future(script(rq, send))
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                S.cancelled += 1
                gone.exception()
            else:
                gone.cancel()
                work.result()
                writer.write(b": ping\n\ndata: [DONE]\n\n")
        else:
            await answer(writer, 404, {"error": {"message": "no such route", "type": "not_found", "code": None, "param": None}})
        await writer.drain()
    except Refuse as e:
        await answer(writer, e.args[0], {"error": {"message": e.args[1], "type": "x", "code": e.args[3], "param": None}}, e.args[2])
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def answer(writer, status, v, more=""):
    data = json.dumps(v).encode()
    writer.write(head(status, "application/json", len(data), more) + data)
    await writer.drain()


async def main(port):
    async with await asyncio.start_server(serve, "127.0.0.1", port) as s:
        await s.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
