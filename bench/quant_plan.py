#!/usr/bin/env python3
"""Does drover quantize give every tensor the type that llama-quantize gives it?

usage: quant_plan.py LLAMA-QUANTIZE [DROVER]

Makes small random models of several shapes (grouped heads or not, tied or not, 80 layers, rows that are no
multiple of 256 or of 32) and compares both programs' --dry-run for every mix, with and without an importance
matrix, --pure and overrides. Two known differences are left out: llama-quantize counts layers by the tensors
that no override names (drover by their number), and takes a block type by override for rows that it does not
fit (drover refuses).
"""
import re, struct, subprocess, sys, tempfile, os

MIXES = ('Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS '
         'IQ3_XS IQ3_S IQ3_M IQ4_NL IQ4_XS Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 MXFP4_MOE F16 BF16 F32 Q3_K Q4_K Q5_K').split()
SHAPES = {
    'gqa4': 'dim=256,layers=32,heads=8,kv_heads=2,head_dim=32,ffn=512,vocab=512,tied=0',
    'gqa2-tied': 'dim=256,layers=17,heads=4,kv_heads=2,head_dim=64,ffn=768,vocab=512,tied=1',
    'mha': 'dim=256,layers=9,heads=4,kv_heads=4,head_dim=64,ffn=512,vocab=512,tied=0',
    '70b': 'dim=256,layers=80,heads=8,kv_heads=1,head_dim=32,ffn=256,vocab=512,tied=0',
    '65b': 'dim=256,layers=80,heads=4,kv_heads=4,head_dim=64,ffn=256,vocab=512,tied=0',
    'rows576': 'dim=576,layers=30,heads=9,kv_heads=3,head_dim=64,ffn=1536,vocab=512,tied=1',
    'rows48': 'dim=48,layers=4,heads=3,kv_heads=3,head_dim=16,ffn=80,vocab=512,tied=0',
}


def run(*argv):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return p.stdout if p.returncode == 0 else None


def theirs(llama, model, mix, *more):
    out = run(llama, '--dry-run', *more, model, mix)
    if out is None: return None
    r = {}
    for m in re.finditer(r'\] +(\S+) +- \[[^\]]*\], type = +(\S+), +size = [^\n]*?(?:\((\S+)\))?\n', out):
        r[m[1]] = (m[3] or m[2]).upper()
    return r


def ours(drover, model, mix, *more):
    out = run(drover, 'quantize', '-q', '--search', '--dry-run', *more, model, mix)
    if out is None: return None
    return {l.split()[0]: l.split('->')[1].split()[0] for l in out.splitlines() if '->' in l}


def imatrix(path, names):
    with open(path, 'wb') as f:
        f.write(struct.pack('<i', len(names)))
        for n, k in names:
            f.write(struct.pack('<i', len(n)) + n.encode() + struct.pack('<ii', 1, k) + struct.pack('<f', 1.0) * k)
        f.write(struct.pack('<ii', 1, 1) + b'x')


def main():
    llama, drover = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else './drover'
    d, n, bad = tempfile.mkdtemp(), 0, 0
    for label, shape in SHAPES.items():
        model, im = os.path.join(d, label + '.gguf'), os.path.join(d, label + '.dat')
        subprocess.check_call([drover, 'synth', '--shape', shape, '--type', 'F16', '-q', '--out', model])
        dim, ffn = (int(re.search(k + r'=(\d+)', shape)[1]) for k in ('dim', 'ffn'))
        hd = int(re.search(r'head_dim=(\d+)', shape)[1]) * int(re.search(r'heads=(\d+)', shape)[1])
        layers = int(re.search(r'layers=(\d+)', shape)[1])
        names = []
        for l in range(layers):
            for t, k in (('attn_q', dim), ('attn_k', dim), ('attn_v', dim), ('attn_output', hd), ('ffn_gate', dim),
                         ('ffn_up', dim), ('ffn_down', ffn)):
                names.append(('blk.%d.%s.weight' % (l, t), k))
        imatrix(im, names)
        for mix in MIXES:
            for what, a, b in (('', [], []), ('imatrix', ['--imatrix', im], ['--imatrix', im]), ('pure', ['--pure'], ['--pure']),
                               ('overrides', ['--tensor-type', r'blk\.[12]\.attn_(q|k)=q5_0', '--output-tensor-type', 'q5_1',
                                              '--token-embedding-type', 'q4_1'],
                                ['--tensor-type', r'blk\.[12]\.attn_(q|k)=Q5_0', '--output-type', 'Q5_1', '--embd-type', 'Q4_1'])):
                if what == 'overrides' and label == 'rows48': continue
                t, o = theirs(llama, model, mix, *a), ours(drover, model, mix, *b)
                n += 1
                if t is None and o is None: continue
                if t is None or o is None:
                    print(label, mix, what, 'only one of the two accepts this:', 'llama' if o is None else 'drover')
                    bad += 1
                    continue
                diff = [(k, t[k], o.get(k)) for k in t if t[k] != o.get(k)]
                if diff or not t:
                    print(label, mix, what, '%d differ, as' % len(diff), diff[:2])
                    bad += 1
    print('%d plans compared, %d differ' % (n, bad))
    return bad > 0


if __name__ == '__main__':
    sys.exit(main())
