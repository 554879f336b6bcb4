"""Prompts of exact lengths in real text: windows of the ids of this project's own documentation, at places that a seed
decides, so that no two share a beginning unless they are meant to."""
import glob
import os
import random
import subprocess

from peerlib import install

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Text:
    """The ids of the text in one model's vocabulary."""

    def __init__(self, drover, model, folder):
        path = os.path.join(folder, "text")
        with open(path, "w") as out:
            for name in sorted(glob.glob(os.path.join(ROOT, "docs", "*.md")) + glob.glob(os.path.join(ROOT, "docs", "*", "*.md"))):
                with open(name, encoding="utf-8") as f:
                    out.write(f.read())
        self.ids = self.tokenize(drover, model, path, ["--no-bos"])
        self.bos = self.tokenize(drover, model, path, [])[:1]
        if self.bos == self.ids[:1]:
            self.bos = []
        if len(self.ids) < 20000:
            raise install.Missing("the documentation gives only %d tokens" % len(self.ids))

    @staticmethod
    def tokenize(drover, model, path, more):
        r = subprocess.run(drover + ["tokenize", model, "--file", path] + more, capture_output=True, text=True)
        if r.returncode:
            raise install.Missing(r.stderr.strip() or "drover tokenize ended with %d" % r.returncode)
        return [int(x) for x in r.stdout.split()]

    def window(self, rng, n):
        at = rng.randrange(len(self.ids))
        return [self.ids[(at + i) % len(self.ids)] for i in range(n)]

    def prompts(self, count, own, prefix, seed):
        """count lists of prefix + own ids; the first `prefix` are the same in all."""
        rng = random.Random("%d %d %d %d" % (seed, count, own, prefix))
        head = self.bos + self.window(rng, max(0, prefix - len(self.bos))) if prefix else []
        out = []
        for _ in range(count):
            start = head or self.bos
            out.append(start + self.window(rng, prefix + own - len(start)))
        return out
