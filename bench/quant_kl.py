#!/usr/bin/env python3
"""KL divergence of whole quantised files to their source: drover's quantiser beside llama-quantize.

usage: quant_kl.py widen SMOLLM2-Q4_1.gguf OUT.gguf [SEED]
       quant_kl.py LLAMA_BIN SOURCE.gguf TEXT MIX,… [--imatrix F] [--both] [--drover D] [--ctx N] [--work DIR]

The second form makes each mix with both programs from SOURCE (F16) and prints the mean KL of both files' logits
to SOURCE's over TEXT and their ratio, as drover computes them, and the CPU seconds of making them; with --both
KL as llama-perplexity computes it too.

`widen` makes a trained model whose rows are multiples of 256, so that the K and IQ types are really used. It
computes what SmolLM2-135M computes, but for the rounding to F16, and every group of 32 weights is one of SmolLM2's or one times a
constant:
- 192 of the 576 channels of the hidden state stand there twice, each 1/sqrt(2) of it: what reads them (columns)
  and what writes them (rows, embedding) is scaled by that too; the norms' weights make up for the width;
- one of three query heads of each key head stands there twice; the columns of wo that read it are halved.
So 768 channels, 12 query heads on 3 key heads, the feed-forward width of 1,536 as it was. SmolLM2 comes as a Q4_1
file, whose grid types with minima would find again, so each weight of the layers first gets a uniform error of up
to half its group's step: it goes where the weight may have been. What KL is measured against is the model with it.
"""
import argparse, json, os, resource, subprocess, sys
import numpy as np


def matrices(reader, seed):
    """name -> float32 (rows, columns), Q4_1 with what its rounding may have taken away"""
    from gguf import GGMLQuantizationType as Q, dequantize
    rng, out = np.random.default_rng(seed), {}
    for t in reader.tensors:
        x = dequantize(t.data, t.tensor_type).astype(np.float32)
        if t.tensor_type == Q.Q4_1:
            blocks = t.data.reshape(x.shape[0], -1, 20)
            step = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16).astype(np.float32)
            x += (rng.random(x.shape, dtype=np.float32) - 0.5) * np.repeat(step[:, :, 0], 32, axis=1)
        out[t.name] = x
    return out


def widen(src, dst, seed=1):
    from gguf import GGUFReader, GGUFWriter, GGUFValueType
    r = GGUFReader(src)
    get = lambda k: r.fields['llama.' + k].contents()
    dim, heads, kv = get('embedding_length'), get('attention.head_count'), get('attention.head_count_kv')
    if (dim, heads, kv) != (576, 9, 3): sys.exit('the model is not SmolLM2-135M')
    wide, hs, half = 768, 64, np.float32(0.5)**np.float32(0.5)
    twice = wide - dim
    scale = np.ones(wide, np.float32)
    scale[:twice] = scale[dim:] = half
    chan = np.r_[0:dim, 0:twice]
    head = [h for g in range(kv) for h in (3 * g, 3 * g + 1, 3 * g + 2, 3 * g)]
    part = np.array([0.5, 1, 1, 0.5] * kv, np.float32)
    rows = np.concatenate([np.arange(h * hs, h * hs + hs) for h in head])
    w = GGUFWriter(dst, 'llama')
    over = {'llama.embedding_length': wide, 'llama.attention.head_count': len(head), 'general.file_type': 1,
            'llama.attention.layer_norm_rms_epsilon': get('attention.layer_norm_rms_epsilon') * dim / wide}
    for k, f in r.fields.items():
        if k.startswith('GGUF.') or k in ('general.architecture', 'general.quantization_version'): continue
        kind, v = f.types[0], over.get(k, f.contents())
        w.add_key_value(k, v, kind, f.types[-1] if kind == GGUFValueType.ARRAY else None)
    w.add_key_value('llama.attention.key_length', hs, GGUFValueType.UINT32)
    w.add_key_value('llama.attention.value_length', hs, GGUFValueType.UINT32)
    for name, x in matrices(r, int(seed)).items():
        if x.ndim == 1:
            w.add_tensor(name, (x[chan] * np.float32((dim / wide)**0.5)).astype(np.float32))
            continue
        if 'attn_output' in name: x = x[:, rows] * np.repeat(part, hs)
        elif 'ffn_down' not in name: x = x[:, chan] * scale
        if 'attn_output' in name or 'ffn_down' in name: x = x[chan] * scale[:, None]
        if 'attn_q' in name: x = x[rows]
        w.add_tensor(name, np.ascontiguousarray(x).astype(np.float16))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file()
    w.close()


def run(*argv):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode: sys.exit('%s: %s' % (' '.join(argv), p.stderr[-400:]))
    return p.stdout


def cpu(*argv):
    """Seconds of user and system time"""
    a = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*argv)
    b = resource.getrusage(resource.RUSAGE_CHILDREN)
    return b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime


def main():
    if sys.argv[1:2] == ['widen']: return widen(*sys.argv[2:5])
    a = argparse.ArgumentParser()
    a.add_argument('bin'); a.add_argument('source'); a.add_argument('text'); a.add_argument('mixes')
    a.add_argument('--imatrix'); a.add_argument('--both', action='store_true'); a.add_argument('--drover', default='./drover')
    a.add_argument('--ctx', default='256'); a.add_argument('--work', default='.')
    a.add_argument('--ours', action='store_true', help='drover\'s file alone')
    o = a.parse_args()
    ref, base = os.path.join(o.work, 'ref.kl'), os.path.join(o.work, 'base.kl')
    file = [os.path.join(o.work, n) for n in ('ours.gguf', 'theirs.gguf')]
    score = os.path.join(o.bin, 'llama-perplexity')
    more = ['--imatrix', o.imatrix] if o.imatrix else []
    run(o.drover, 'perplexity', o.source, '--file', o.text, '--ctx', o.ctx, '--save-logits', ref)
    if o.both: run(score, '-m', o.source, '-f', o.text, '-c', o.ctx, '-t', '2', '--kl-divergence-base', base)
    for mix in o.mixes.split(','):
        took = [cpu(o.drover, 'quantize', '-q', '-f', '-t', '2', *more, o.source, mix, file[0])]
        if not o.ours: took.append(cpu(os.path.join(o.bin, 'llama-quantize'), *more, o.source, file[1], mix, '2'))
        kl = [json.loads(run(o.drover, 'perplexity', f, '--kl', ref, '--json'))['kl']['mean'] for f in file[:1 if o.ours else 2]]
        line = '%-8s %-8s drover %s' % (mix, 'imatrix' if o.imatrix else '', ' '.join('%.5f' % k for k in kl))
        if not o.ours: line += ' ratio %.4f' % (kl[0] / kl[1])
        line += '  cpu ' + ' '.join('%.2f' % t for t in took) + (' %.1fx' % (took[1] / took[0]) if not o.ours else '')
        if o.both:
            out = [run(score, '-m', f, '-f', o.text, '-c', o.ctx, '-t', '2', '--kl-divergence-base', base, '--kl-divergence')
                   for f in file]
            kl = [float(next(l for l in t.splitlines() if l.startswith('Mean') and 'KLD' in l).split()[2]) for t in out]
            line += '  llama.cpp %.5f %.5f ratio %.4f' % (*kl, kl[0] / kl[1])
        print(line, flush=True)
    for f in file + [ref, base]:
        if os.path.exists(f): os.remove(f)


if __name__ == '__main__': main()
