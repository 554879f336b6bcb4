#!/usr/bin/env python3
"""Make src/eval/verify_data.c: what `drover verify` holds a model against.

usage: verify.py --hf DIR_OF_SMOLLM2 --tiktoken tokenizer.model > src/eval/verify_data.c

DIR is a float32 Hugging Face folder dequantised from the GGUF that `drover get smollm2` fetches.
Ids come from transformers (SmolLM2) and tiktoken (Llama 3), log-probabilities from transformers
in float32. Needs torch, transformers, tiktoken."""
import argparse, base64, hashlib, struct, sys

WORDS = {
 "en": "The quick brown fox can't jump over 12,345 lazy dogs; they'll nap at 3:45pm, won't they?",
 "de": "Größere Übungen für Füße: Straßenbahn fährt um 7.30 Uhr über die Brücke.",
 "fr": "L'été dernier, j'ai mangé des crêpes à 4,50 € près de l'hôtel où naît la Loire.",
 "it": "Perché no? Così va la città: più caffè, meno problemi.",
 "pt": "Não há coração sem emoção, disse a irmã às três da manhã.",
 "es": "¿Dónde está el niño? ¡Mañana comeremos piñones y jamón!",
 "hi": "नमस्ते दुनिया, यह एक छोटा वाक्य है जिसमें क्ष और त्र हैं।",
 "th": "สวัสดีชาวโลก นี่คือประโยคภาษาไทยที่ไม่มีช่องว่าง",
 "zh": "今天天气很好，我们去公园散步吧。2026年11月", "ja": "こんにちは、世界！カタカナとひらがなと漢字。",
 "ko": "안녕하세요 세계, 오늘은 날씨가 좋습니다.", "ar": "مرحبا بالعالم، كيف حالك اليوم؟ ١٢٣",
 "he": "שלום עולם, מה שלומך?", "ru": "Привет, мир! Ёжик в тумане съел 1000 яблок.",
 "el": "Καλημέρα κόσμε, τι κάνεις σήμερα;", "vi": "Tiếng Việt có nhiều dấu thanh điệu.",
 "tr": "İstanbul'da ılık bir gün, çöğür çaldı.", "pl": "Zażółć gęślą jaźń.",
 "code": "for (int i = 0; i < n; i++) {\n\tx[i] += 0x1F; // add\n}\n",
 "py": "def f(x):\n    return {'a': x**2, \"b\": [1, 2.5e-3]}\n\n\n",
 "json": "{\"name\": \"f\", \"parameters\": {\"q\": \"a\\nb\", \"n\": -1.5}}",
 "url": "https://example.org/a/b?c=1&d=%20x#frag user@example.org",
 "emoji": "👩‍👩‍👧‍👦 🇫🇷 👍🏽 ❤️ 🤷‍♂️ ok", "math": "∑ᵢ xᵢ² ≤ ∫₀^∞ e^{−x}dx ≈ 1, ½ + ⅓ ≠ ⅚",
}
def strings():
    out = list(WORDS.values())
    out += [" " * n for n in (1, 2, 3, 4, 7, 8, 16, 33)]
    out += ["\n" * n for n in (1, 2, 3, 5)] + ["\t", "\t\t", " \n", "\n ", " \n \n", "\r\n", "\r\n\r\n", "a\r\nb"]
    out += ["1" * n for n in range(1, 10)] + ["12 345 6789", "3.14159", "1e10", "٣٤٥٦", "Ⅷ", "①②③④"]
    out += [c + "s" for c in ("I'", "IT'", "it\u2019", "'", "x''")] + ["we'Re", "I'LL", "don'T", "he'\u017f", "'\u017ft", "o'clock"]
    out += ["e\u0301", "\u0301", "क\u094d\u0937", "ก\u0e33", "a\u0300\u0301b", "\u200b", "\u200d", "\ufeff", "\u00a0", "\u3000", "a\u2003b", "x\u0085y"]
    out += ["<|begin_of_text|>", "<|eot_id|> and <|im_end|>", "[INST] x [/INST]", "<s>", "</s>", "<|python_tag|>"]
    out += ["\U00010348", "\U0001F600\U0001F601", "\U000e0041", "\ue000", "\U0010fffd"]
    out += ["!!!", "...", "?!", "--", "->", "=>", "==", "!=", "<=", "&&", "||", "/*", "*/", "#!", "$x", "@y", "%d%%", "\\n", "`z`"]
    out += [a + b for a in ("foo", " foo", "foo ", " Foo_") for b in ("bar", " bar", "\nbar", ".bar()", "-bar", "'bar'")]
    out += [w[i:] for w in (WORDS["en"], WORDS["hi"], WORDS["th"], WORDS["fr"], WORDS["ru"], WORDS["ja"]) for i in range(1, 24)]
    seen, uniq = set(), []
    for s in out:
        if s not in seen: seen.add(s); uniq.append(s)
    assert len(uniq) >= 200, len(uniq)
    return uniq[:200]

TEXT = """Rain had fallen on the harbour for three days, and the fishing boats stayed tied to the quay. In the morning of the fourth day the wind turned to the north, the clouds broke open, and the old women who sold bread near the church said that the sea would be calm before noon. A boy of about ten years ran down the hill with a letter in his hand. He stopped at the house of the schoolmaster, knocked twice, and waited. When the door opened he said that the letter had come with the night train, and that his father would be glad of an answer. The schoolmaster read it slowly. It was from his brother, who had left the village twenty years ago to work in the city, and who now wrote that he was coming home. He asked whether the room above the kitchen was still empty, and whether the apple tree in the garden had survived the storms. The schoolmaster folded the paper, put it in his pocket, and looked at the sea for a long time before he spoke. Tell your father, he said, that the room is ready and that the tree has never carried more fruit than it does this year."""

def c_str(b):
    out = ""
    for x in b:
        ch = chr(x)
        out += "\\\"" if ch == '"' else "\\\\" if ch == "\\" else "?\"\"" if ch == "?" else ch if 32 <= x < 127 else f"\\{x:03o}"
    return '"' + out + '"'

def lines(b):
    return "\n    ".join(c_str(b[i:i + 60]) for i in range(0, max(len(b), 1), 60))

def digest(all_ids):
    h = hashlib.sha256()
    for ids in all_ids:
        h.update(struct.pack("<i", len(ids)))
        for i in ids: h.update(struct.pack("<i", i))
    return h.hexdigest()

def main():
    a = argparse.ArgumentParser()
    a.add_argument("--hf", required=True); a.add_argument("--tiktoken", required=True)
    a = a.parse_args()
    import tiktoken, torch, transformers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    s = strings()
    smol = PreTrainedTokenizerFast(tokenizer_file=a.hf + "/tokenizer.json")
    # control tokens in text are text: without the added tokens that are special
    import json, tokenizers
    tj = json.load(open(a.hf + "/tokenizer.json"))
    tj["added_tokens"] = [t for t in tj["added_tokens"] if not t["special"]]
    plain = tokenizers.Tokenizer.from_str(json.dumps(tj))
    ranks = {base64.b64decode(l.split()[0]): int(l.split()[1]) for l in open(a.tiktoken)}
    pat = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tk = tiktoken.Encoding("llama3", pat_str=pat, mergeable_ranks=ranks, special_tokens={})
    known = [("SmolLM2", digest(plain.encode(x, add_special_tokens=False).ids for x in s)),
             ("Llama 3", digest(tk.encode_ordinary(x) for x in s))]
    ids = plain.encode(TEXT, add_special_tokens=False).ids
    m = AutoModelForCausalLM.from_pretrained(a.hf, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        lp = torch.log_softmax(m(torch.tensor([ids])).logits[0].double(), -1)
    v = [lp[i, ids[i + 1]].item() for i in range(len(ids) - 1)]
    print("/* verify_data.c - made by tools/golden/verify.py: strings, a text, and what reference")
    print(f" * implementations say of them (tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__},")
    print(f" * transformers {transformers.__version__}, torch {torch.__version__}). */")
    print('#include "eval/verify_data.h"\n')
    print("const verify_string verify_strings[VERIFY_STRINGS] = {")
    for x in s:
        b = x.encode()
        print(f"    {{ {len(b)}, {lines(b)} }},")
    print("};\n\nconst char verify_text[] =\n    " + lines(TEXT.encode()) + ";\n")
    print("const verify_vocab verify_vocabs[] = {")
    for n, d in known:
        print(f'    {{ "{n}", "{d}" }},')
    print("    { 0 }\n};\n")
    print(f"/* SmolLM2-135M-Instruct, dequantised, float32: log p of ids 1.. of the text */")
    print(f"const int verify_smollm2_n = {len(v)};")
    print("const float verify_smollm2[] = {")
    for i in range(0, len(v), 8):
        print("    " + " ".join(f"{x:.5f}f," for x in v[i:i + 8]))
    print("};")

main()
