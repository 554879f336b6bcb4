#!/usr/bin/env python3
"""Seeds of tests/fuzz/corpus for the readers of format/: small whole files, and the classic ways
in which they lie. Fuzzers add to them; this only ever adds or rewrites its own."""
import json
import os
import struct

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests/fuzz/corpus")


def put(kinds, name, data):
    for kind in kinds:
        with open(os.path.join(root, kind, name), "wb") as f:
            f.write(data)


def s(text):
    return struct.pack("<Q", len(text)) + text.encode()


def kv(key, t, payload):
    return s(key) + struct.pack("<I", t) + payload


def info(name, dims, t, offset):
    return s(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + \
        struct.pack("<IQ", t, offset)


def gguf(kvs, infos, data, version=3, n_kv=None, n_t=None):
    b = b"GGUF" + struct.pack("<IQQ", version, len(infos) if n_t is None else n_t,
                              len(kvs) if n_kv is None else n_kv) + b"".join(kvs) + b"".join(infos)
    return b + b"\0" * (-len(b) % 32) + data


KV = [kv("general.architecture", 8, s("llama")), kv("a", 0, b"\1"), kv("b", 1, b"\xff"),
      kv("c", 2, b"\1\2"), kv("d", 3, b"\1\2"), kv("e", 4, b"\1\2\3\4"), kv("f", 5, b"\1\2\3\4"),
      kv("g", 6, b"\0\0\x80\x3f"), kv("h", 7, b"\1"), kv("i", 10, b"\1" * 8),
      kv("j", 11, b"\xff" * 8), kv("k", 12, b"\0" * 8),
      kv("tokens", 9, struct.pack("<IQ", 8, 3) + s("x") + s("") + s("yy")),
      kv("types", 9, struct.pack("<IQ", 5, 2) + b"\0" * 8), kv("general.alignment", 4, b"\x20\0\0\0")]
types = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24),
         8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176),
         14: (256, 210), 23: (256, 136)}
infos, data = [], b""
for t, (elems, size) in types.items():
    infos.append(info("t%d" % t, [elems, 2], t, len(data)))
    data += bytes(range(256))[:size] * 2 if size < 256 else b"\1" * (2 * size)
    data += b"\0" * (-len(data) % 32)
whole = gguf(KV, infos, data)
G = ["gguf", "tensors"]
put(G, "whole", whole)
put(G, "v2", gguf(KV, infos, data, version=2))
put(G, "empty", gguf([], [], b""))
put(G, "big-endian", b"GGUF" + struct.pack(">IQQ", 3, 1, 1))
put(G, "cut", whole[:len(whole) // 2])
put(G, "many", gguf([], [], b"", n_kv=2 ** 63, n_t=2 ** 63))
put(G, "nested", gguf([kv("a", 9, struct.pack("<IQIQ", 9, 1, 9, 1))], [], b""))
put(G, "long-array", gguf([kv("a", 9, struct.pack("<IQ", 10, 2 ** 61))], [], b""))
put(G, "twice", gguf(KV[:1] * 2, infos[:1] * 2, data))
put(G, "align-0", gguf([kv("general.alignment", 4, b"\0" * 4)], infos[:1], data))
put(G, "unknown-type", gguf([], [info("u", [7], 222, 0), info("v", [4], 0, 0)], b"\0" * 32))
put(G, "overlap", gguf([], [info("a", [16], 0, 0), info("b", [16], 0, 32)], b"\0" * 128))
put(G, "wrap", gguf([], [info("a", [2 ** 31, 2 ** 31, 2 ** 31], 0, 0)], b""))
put(G, "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456789\n")


def st(header, data=b"", length=None):
    h = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(h) if length is None else length) + h + data


def t(dtype, shape, a, b):
    return {"dtype": dtype, "shape": shape, "data_offsets": [a, b]}


good = {"__metadata__": {"format": "pt"}, "a": t("F32", [2, 3], 0, 24), "b": t("BF16", [3], 24, 30),
        "c": t("I64", [], 30, 38), "d": t("F8_E4M3", [2], 38, 40), "\u00e9": t("F16", [0], 40, 40)}
S = ["safetensors", "tensors"]
put(S, "st-whole", st(good, bytes(40)))
put(S, "st-empty", st({}))
put(S, "st-short", st(good, bytes(39)))
put(S, "st-long", st(good, bytes(41)))
put(S, "st-length", st(good, bytes(40), length=2 ** 63))
put(S, "st-overlap", st({"a": t("F32", [1], 0, 4), "b": t("F32", [1], 0, 4)}, bytes(4)))
put(S, "st-twice", st(b'{"a":{},"a":{}}'))
put(S, "st-odd", st({"b": t("BF16", [1], 0, 2), "a": t("F32", [1], 2, 6)}, bytes(6)))
put(S, "st-negative", st({"a": t("F32", [-1], 4, 0)}, bytes(4)))
put(S, "st-huge", st({"a": t("F32", [2 ** 62, 8], 0, 4)}, bytes(4)))
put(S, "st-deep", st(b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"))
put(["json"], "config", json.dumps({"architectures": ["LlamaForCausalLM"], "eps": 1e-5, "n": 1,
                                    "s": "\u00e9\n\"", "b": True, "z": None}).encode())
put(["json"], "arrays", b"[[],[],{},{},[[[]]],\"\",0,-1,1e400]")
put(["json"], "broken", b'{"a" 1}')
put(["json"], "string", b'["' + b"x" * 500 + b'\\u0000\\ud800"]')
put(["shards"], "whole", b'{"metadata":{"total_size":8},"weight_map":{"x":"a.safetensors",'
    b'"y":"b.safetensors"}}')
put(["shards"], "missing", b'{"weight_map":{"x":"c.safetensors"}}')
put(["shards"], "escape", b'{"weight_map":{"x":"../a.safetensors"}}')
put(["shards"], "wrong", b'{"weight_map":{"x":"b.safetensors"}}')
put(["shards"], "number", b'{"weight_map":{"x":1}}')


# reference log-probabilities (src/eval/logit_file.h): a window of 5 over 70 ids; the peer's kind
def fnv(b):
    h = 0xcbf29ce484222325
    for (v,) in struct.iter_unpack("<Q", b):
        h = (h ^ v) * 0x100000001b3 % 2 ** 64
    return h


def logit_row(V, twice=False):
    n = min(V, 64)
    b = struct.pack("<dfI", -1.5, 1e-3, n)
    b += b"".join(struct.pack("<if", 0 if twice else i, i / 8) for i in range(n))
    b += b"".join(struct.pack("<H", 125 * i) for i in range(V))
    b += b"\0" * (-len(b) % 8)
    return struct.pack("<Q", fnv(b)) + b


os.makedirs(os.path.join(root, "logit_file"), exist_ok=True)
L = ["logit_file"]
for V in (3, 70):
    ids = struct.pack("<5i", 0, 1, 2, 1, 0) + b"\0" * 4
    head = b"DRVRLGT1" + struct.pack("<IIQ", V, 5, 1) + ids
    put(L, "whole%d" % V, head + logit_row(V) * 4)
    put(L, "twice%d" % V, head + logit_row(V, True) * 4)
put(L, "many", b"DRVRLGT1" + struct.pack("<IIQ", 2 ** 24, 2 ** 24, 2 ** 63))
put(L, "peer", b"_logits_" + struct.pack("<3i6i", 6, 5, 1, 0, 1, 2, 3, 4, 0) +
    struct.pack("<ff6H", 16 / 65535, -16.5, 65535, 0, 60000, 30000, 7, 0) * 2)


META = {"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 8,
        "ffn_dim_multiplier": 1.3, "multiple_of": 1024, "norm_eps": 1e-05, "rope_theta": 500000.0,
        "use_scaled_rope": True}
os.makedirs(os.path.join(root, "params"), exist_ok=True)
put(["params"], "llama3", json.dumps(META).encode())
put(["params"], "llama2", b'{"dim": 64, "multiple_of": 256, "n_heads": 2, "n_layers": 1, '
    b'"norm_eps": 1e-06, "vocab_size": -1}')
put(["params"], "mistral", b'{"dim": 64, "n_layers": 1, "head_dim": 16, "hidden_dim": 100, "n_heads": 4, '
    b'"n_kv_heads": 2, "norm_eps": 1e-05, "sliding_window": 16, "vocab_size": 8}')
put(["params"], "huge", b'{"dim": 2147483647, "n_layers": 2147483647, "n_heads": 1, "vocab_size": 8, '
    b'"ffn_dim_multiplier": 1e300, "multiple_of": 2147483647}')
put(["params"], "int4", b'{"quantization_args": {"scheme": "int4_weight_int8_dynamic_activation"}}')


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def text(x):
    return b"X" + struct.pack("<I", len(x)) + x.encode()


def tensor(name, cls, key, count, shape, stride, v3=None):
    rebuild = b"ctorch._utils\n_rebuild_tensor_v" + (b"3\n" if v3 else b"2\n")
    return text(name) + rebuild + b"(" + tuple_of(text("storage"), cls, text(key), text("cpu"),
        b"K" + bytes([count])) + b"QK\0" + tuple_of(*(b"K" + bytes([d]) for d in shape)) + \
        tuple_of(*(b"K" + bytes([d]) for d in stride)) + b"\x89ccollections\nOrderedDict\n)R" + \
        (v3 or b"") + b"tR"


def archive(pickle, members=(), top="archive", method=0):
    import io
    import zipfile
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, b in ((top + "/data.pkl", pickle), *members):
            z.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), b, method)
    return out.getvalue()


pkl = b"\x80\2}q\0(" + tensor("a", b"ctorch\nFloatStorage\n", "0", 6, [2, 3], [3, 1]) + \
    tensor("b", b"ctorch.storage\nUntypedStorage\n", "1", 8, [8], [1], b"ctorch\nfloat8_e4m3fn\n") + \
    tensor("c", b"ctorch\nBFloat16Storage\n", "2", 4, [2, 2], [1, 2]) + b"u."
state = b"\x80\2ccollections\nOrderedDict\n)Rq\0(" + \
    tensor("w", b"ctorch\nHalfStorage\n", "0", 2, [], []) + b"u}" + text("_metadata") + b"}sb."
rest = [("archive/byteorder", b"little"), ("archive/data/0", bytes(24)),
        ("archive/data/1", bytes(8)), ("archive/data/2", bytes(8)), ("archive/version", b"3\n")]
straight = pkl.replace(b"(K\1K\2t", b"(K\2K\1t")
put(["pickle"], "whole", pkl)
put(["pickle"], "state", state)
put(["pickle"], "system", b"cos\nsystem\n(S'id'\ntR.")
put(["pickle"], "protocol4", b"\x80\4\x95\5\0\0\0\0\0\0\0}\x94(\x8c\1a\x94K\1u.")
put(["pickle"], "numbers", b"\x80\2(K\1M\1\2J\1\2\3\4\x8a\3\1\2\3G\0\0\0\0\0\0\0\0N\x88\x89t.")
put(["pickle"], "memo", b"\x80\2)q\0h\0h\0\x86q\1h\1h\1\x86r\2\0\0\0j\2\0\0\0\x87.")
put(["pickle"], "lists", b"\x80\2](K\1Ne]a.")
put(["pth"], "whole", archive(straight, rest))
put(["pth"], "gaps", archive(pkl, rest))
put(["pth"], "no-storage", archive(straight, rest[-1:]))
put(["pth"], "big", archive(straight, [("archive/byteorder", b"big")] + rest[1:]))
put(["pth"], "deflated", archive(straight, rest, method=8))
put(["zip"], "stored", archive(straight, rest))
put(["zip"], "deflated", archive(pkl * 20, rest, method=8))
put(["zip"], "empty", b"PK\5\6" + bytes(18))
z64 = archive(b"x" * 50)
end = z64[-22:]
n, at = struct.unpack("<II", end[12:20])
z64 = z64[:-22] + b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, n, at) + \
    b"PK\6\7" + struct.pack("<IQI", 0, len(z64) - 22, 1)
put(["zip"], "zip64", z64 + end)
put(["zip", "pth"], "zip64-full", z64 + b"PK\5\6\0\0\0\0" + b"\xff" * 12 + b"\0\0")

# ---- constraints
put(["schema"], "object", b'{"type":"object","properties":{"a":{"type":"string","maxLength":5},"b":{"type":'
    b'"integer","minimum":-3,"exclusiveMaximum":12}},"required":["b"],"additionalProperties":{"type":"null"},'
    b'"maxProperties":3}')
put(["schema"], "array", b'{"type":"array","prefixItems":[{"const":1},{"enum":["x",null,{"y":[2.5]}]}],"items":'
    b'{"type":["number","boolean"]},"minItems":1,"maxItems":9}')
put(["schema"], "recursive", b'{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":'
    b'"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}}}')
put(["schema"], "strings", b'{"anyOf":[{"format":"date-time"},{"pattern":"^a+\\\\d{2,3}$","minLength":4},{"type":'
    b'"string","format":"uuid"}],"type":"string"}')
put(["schema"], "merge", b'{"allOf":[{"properties":{"a":{"minimum":1.5}}},{"patternProperties":{"^a":{"maximum":'
    b'7}},"propertyNames":{"maxLength":3}}],"type":"object","minProperties":1,"oneOf":[{"required":["a"],'
    b'"properties":{"a":{"type":"integer"}}},{"type":"array"}],"not":{"type":"null"}}')
put(["schema"], "any", b"{}")
put(["schema"], "long", b'{"type":"string","minLength":1000,"maxLength":1000000000}')
put(["schema"], "loop", b'{"$ref":"#"}')
put(["grammar"], "json", b'root ::= value\nvalue ::= "[" (value ("," value)*)? "]" | [0-9]+ | "\\"" [^"\\\\\\x00-\\x1f]* '
    b'"\\""\n# end\n')
put(["grammar"], "repeat", b'root ::= ("ab" | [c-e]{2,4})+ x{3}\nx ::= "\\u00e9"? .\n')
put(["grammar"], "nest", b'root ::= "a" root "b" | ""')
put(["grammar"], "left", b'root ::= a\na ::= root "x" | "y"')
put(["grammar"], "many", b'root ::= ("a"{0,900} "b"){0,900}')
put(["regex"], "classes", b"^(?:[a-f\\d]{2}|\\w+?\\s)(?<n>x|y)*[^\\W_]$")
put(["regex"], "nested", b"(a{1000}){1000}")
put(["regex"], "unicode", "[\u00e0-\u00ff]|\\u{1F600}|\\p{Lu}.".encode())
put(["regex"], "bad", b"a(?=b)\\1[z-a]")
put(["regex"], "blow", b"(a|b)*a(a|b){12}")
# adapters (tests/fuzz/fuzz_lora.c): a config, zeros, a file of tensors
def st(entries):
    head, at, data = {}, 0, b""
    for name, shape in entries:
        n = 4 * shape[0] * shape[1]
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + n]}
        at, data = at + n, data + struct.pack("<f", 0.5) * (n // 4)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def adapter(more, body, **config):
    text = json.dumps(dict(peft_type="LORA", r=2, lora_alpha=4, **config)).encode() if body[:4] != b"GGUF" else b""
    text += b"\0"
    return text + b"\0" * (-len(text) % 8) + body + more


os.makedirs(os.path.join(root, "lora"), exist_ok=True)
A, P = ["lora"], "base_model.model."
q = P + "model.layers.0.self_attn.q_proj.lora_"
pair = [(q + "A.weight", [2, 4]), (q + "B.weight", [8, 2])]
emb = [(P + "model.embed_tokens.lora_embedding_A", [2, 6]), (P + "model.embed_tokens.lora_embedding_B", [4, 2])]
put(A, "pair", adapter(b"", st(pair)))
put(A, "patterns", adapter(b"", st(pair + emb), rank_pattern={"(q|k)_proj": 2}, alpha_pattern={"x": 1, "^.*q": 3},
                           use_rslora=True))
put(A, "lonely", adapter(b"", st(pair[:1])))
put(A, "stranger", adapter(b"", st(pair + [(P + "lm_head.weight", [6, 4])])))
put(A, "dora", adapter(b"", st(pair), use_dora=True))
g = [kv("general.architecture", 8, s("llama")), kv("general.type", 8, s("adapter")), kv("adapter.type", 8, s("lora")),
     kv("adapter.lora.alpha", 6, struct.pack("<f", 4))]
put(A, "gguf", adapter(b"", gguf(g, [info("blk.1.attn_k.weight.lora_a", [4, 2], 0, 0),
                                     info("blk.1.attn_k.weight.lora_b", [2, 4], 0, 32)], b"\0\0\0?" * 16)))
