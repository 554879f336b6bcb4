#!/usr/bin/env python3
"""Peak memory of PyTorch's head and cross-entropy, forward and backward, above what its inputs and
gradients take: what drover's loss_head (src/dev/cpu_loss.c) is held against.

usage: loss_memory.py [TOKENS [VOCAB [WIDTH]]]      4096 49152 576
A process a case: float32, bfloat16 autocast as transformers does it (logits upcast), and
torch.compile of the first where a compiler is found. Needs torch."""
import resource, subprocess, sys

BODY = """
import resource, sys, torch, torch.nn.functional as F
N, V, C, how = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
x = torch.randn(N, C, requires_grad=True); w = torch.randn(V, C, requires_grad=True); w.data *= 0.02
t = torch.randint(0, V, (N,))
def loss(x, w):
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "bf16"):
        y = F.linear(x, w)
    return F.cross_entropy(y.float(), t)
f = torch.compile(loss) if how == "compile" else loss
F.cross_entropy(F.linear(x[:8], w), t[:8]).backward()          # libraries, buffers, gradients
if how == "compile":
    f(x, w).backward()
base = open("/proc/self/statm").read().split()[1]
open("/proc/self/clear_refs", "w").write("5")                  # the peak begins anew
f(x, w).backward()
peak = [l for l in open("/proc/self/status") if l.startswith("VmHWM")][0].split()[1]
print(int(peak) * 1024 - int(base) * 4096)
"""


def main():
    n = (sys.argv[1:] + ["4096", "49152", "576"][len(sys.argv) - 1:])[:3]
    for how in ("float32", "bf16", "compile"):
        r = subprocess.run([sys.executable, "-c", BODY, *n, how], capture_output=True, text=True)
        print(how, f"{int(r.stdout) / 1e6:.0f} MB" if r.returncode == 0 else "does not run here")


main()
