#!/usr/bin/env python3
"""Whole training steps (forward, backward, clip, AdamW), drover's beside PyTorch's, in turn, tokens a second by
the clock.

    bench/train_step.py [--shapes 135M,12x768] [--tokens 512,2048,4096] [--precisions fp32,bf16] [--rounds 3]
                        [--compile] [--threads 2] [--drover ./drover] [--work DIR]

PyTorch runs transformers' LlamaForCausalLM (sdpa) on the same shape with its fused AdamW; bf16 there is autocast,
as its users train with float32 masters. --compile adds torch.compile and the faster of the two counts. Rows are of 512
tokens. drover trains from random weights of the shape on a text with SmolLM2's vocabulary (`drover get smollm2`).
Needs torch and transformers. Prints medians, the median of the rounds' own ratios and MFU by the causal count.
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

SEQ = 512
SHAPES = {  # dim, layers, heads, kv_heads, head_dim, ffn, vocab
    "135M": (576, 30, 9, 3, 64, 1536, 49152),
    "12x768": (768, 12, 12, 12, 64, 2048, 49152),
    "gpt2-124M": (768, 12, 12, 12, 64, 2048, 49152),
}


def flops_per_token(shape):
    C, L, nh, nkv, hs, F, V = SHAPES[shape]
    linear = L * (2 * C * nh * hs + 2 * C * nkv * hs + 3 * C * F) + V * C
    return 6 * linear + 6 * L * nh * hs * SEQ          # attention counted causally


def drover(a, shape, n, precision, steps):
    C, L, nh, nkv, hs, F, V = SHAPES[shape]
    out = tempfile.mkdtemp(dir=a.work)
    start = os.path.join(a.work, shape + ".gguf")
    if not os.path.exists(start):
        tok = subprocess.run([a.drover, "list"], capture_output=True, text=True).stdout.split("smollm2", 1)[1].split("\n")[0].split()[-1]
        subprocess.run([a.drover, "synth", "--shape",
                        f"dim={C},layers={L},heads={nh},kv_heads={nkv},head_dim={hs},ffn={F},vocab={V},ctx={SEQ},tied=1",
                        "--type", "F32", "--tokenizer", tok, "--out", start], check=True, capture_output=True)
    shards = os.path.join(a.work, "shards")
    if not os.path.exists(shards):
        subprocess.run([a.drover, "prep", "smollm2", a.text, "-o", shards], check=True, capture_output=True)
    recipe = os.path.join(out, "r.yaml")
    with open(recipe, "w") as f:
        f.write(f"""out: {out}/run
precision: {'bf16' if precision == 'bf16' else 'f32'}
model: {{init: {start}, random: true}}
data:
  - path: {shards}
checkpoint: {{every: 0}}
phases:
  - {{until_tokens: {n * steps}, seq: {SEQ}, batch_tokens: {n}, peak: 1e-4}}
""")
    r = subprocess.run([a.drover, "train", recipe, "-t", str(a.threads)], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    rates = []
    for line in open(os.path.join(out, "run", "log.jsonl")):
        e = json.loads(line)
        if "tokens_per_s" in e:
            rates.append(e["tokens_per_s"])
    subprocess.run(["rm", "-rf", out])
    return statistics.median(rates[1:])


PYTORCH = """
import json, sys, time, statistics, torch
from transformers import LlamaConfig, LlamaForCausalLM
shape, n, precision, steps, threads, compiled = json.loads(sys.argv[1])
C, L, nh, nkv, hs, F, V = shape
torch.set_num_threads(threads)
torch.manual_seed(0)
m = LlamaForCausalLM(LlamaConfig(hidden_size=C, num_hidden_layers=L, num_attention_heads=nh, num_key_value_heads=nkv, head_dim=hs,
    intermediate_size=F, vocab_size=V, tie_word_embeddings=True, attn_implementation="sdpa", use_cache=False))
m.train()
f = torch.compile(m) if compiled else m
opt = torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True)
ids = torch.randint(0, V, (n // 512, 512))
times = []
for i in range(steps):
    t = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = f(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    opt.step()
    opt.zero_grad(set_to_none=True)
    times.append(time.perf_counter() - t)
print(n / statistics.median(times[1:]))
"""


def pytorch(a, shape, n, precision, steps, compiled):
    arg = json.dumps([SHAPES[shape], n, precision, steps, a.threads, compiled])
    r = subprocess.run([sys.executable, "-c", PYTORCH, arg], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return float(r.stdout.split()[-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shapes", default="135M,12x768")
    p.add_argument("--tokens", default="512,2048,4096")
    p.add_argument("--precisions", default="fp32,bf16")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--compile", action="store_true")
    p.add_argument("--drover", default="./drover")
    p.add_argument("--text", required=True, help="a text of a few hundred KB or more")
    p.add_argument("--work")
    a = p.parse_args()
    a.work = a.work or tempfile.mkdtemp()
    os.makedirs(a.work, exist_ok=True)
    peak = {}
    for kind, op in (("fp32", "f32"), ("bf16", "bf16")):
        r = subprocess.run([a.drover, "bench", "smollm2", "-p", "16", "-n", "0", "-r", "1", "-t", str(a.threads), "--json"],
                           capture_output=True, text=True)
        peak[kind] = json.loads(r.stdout)["roofline"][op]
    print(f"{'shape':10} {'tokens':>6} {'':5} {'drover':>8} {'PyTorch':>8} {'ratio':>6}  drover's MFU")
    for shape in a.shapes.split(","):
        for precision in a.precisions.split(","):
            for n in map(int, a.tokens.split(",")):
                ours, theirs, ratio = [], [], []
                for _ in range(a.rounds):
                    ours.append(drover(a, shape, n, precision, a.steps))
                    theirs.append(max(pytorch(a, shape, n, precision, a.steps, c)
                                      for c in ([False, True] if a.compile else [False])))
                    ratio.append(ours[-1] / theirs[-1])
                o, t, q = map(statistics.median, (ours, theirs, ratio))
                mfu = o * flops_per_token(shape) / 1e9 / peak[precision]
                print(f"{shape:10} {n:6} {precision:5} {o:8.1f} {t:8.1f} {q:6.2f}  {100 * mfu:.0f} %", flush=True)


if __name__ == "__main__":
    main()
