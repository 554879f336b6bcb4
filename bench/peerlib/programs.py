"""The programs that are compared: how each is asked for a job, and what its answer says.

A job is a dict: kind (one of KINDS), file, threads, and what the kind needs: p, n, batches, depth, kv, prompt. `command`
gives the argument list, `answer` reads standard output into {measure: [figures]}. Drover's own form is bench --json;
llama.cpp's family answers in llama-bench's JSON and in batched-bench's table."""
import hashlib
import json
import os
import re
import shutil
import subprocess

from . import install

KINDS = ("short", "batch", "depth", "first")

# exe: programs of the peer's folder, for each kind; flags: what is the fastest way to run it, for each exe
PEERS = {
    "llama.cpp": {
        "exe": {"short": "llama-bench", "batch": "llama-batched-bench", "depth": "llama-batched-bench",
                "first": "llama-completion"},
        "flags": {"llama-bench": ["-fa", "on"], "llama-batched-bench": ["-fa", "on"],
                  "llama-completion": ["-fa", "on", "--no-warmup", "-no-cnv", "--simple-io", "--no-display-prompt",
                                       "--no-perf"]},
        "pages": "huge",        # weights are repacked into memory of its own
    },
    "ik_llama.cpp": {
        "exe": {"short": "llama-bench", "batch": "llama-batched-bench", "depth": "llama-batched-bench",
                "first": "llama-cli"},
        "flags": {"llama-bench": ["-fa", "1", "-rtr", "1", "-mmp", "0"],
                  "llama-batched-bench": ["-fa", "on", "-rtr", "--no-mmap"],
                  "llama-cli": ["-fa", "on", "--no-warmup", "--simple-io", "--no-display-prompt"]},
        "pages": "huge",
    },
}


def is_drover(program):
    return program["kind"] == "drover"


def command(program, job):
    return (_drover if is_drover(program) else _llama)(program, job)


def answer(program, job, out, err=""):
    """{measure: [figures]} of a finished run; ValueError says what is wrong with the answer. ik_llama.cpp writes its
    table to standard error."""
    if is_drover(program):
        return _from_drover(job, out)
    if job["kind"] == "short":
        return _from_llama_bench(job, out)
    return _from_batched_bench(job, out + "\n" + err)


def wanted(job):
    """The names of a job's measures."""
    if job["kind"] == "short":
        return (["prefill %d" % job["p"]] if job["p"] else []) + (["decode %d" % job["n"]] if job["n"] else [])
    if job["kind"] == "batch":
        return ["batch %d" % b for b in job["batches"]]
    if job["kind"] == "depth":
        return [w + " %d %s" % (job["depth"], job["kv"]) for w in ("fill", "depth")]
    return ["first token %d" % job["p"]]


def probe_command(drover, job):
    """Reads nothing but the roofline: of this file's own pages and of these threads."""
    return drover["argv"] + ["bench", job["file"], "-p", "0", "-n", "0", "-t", str(job["threads"]), "--json",
                             "--kv-type", job.get("kv", "f16")]


def probe_answer(out):
    """The roofline, and what bounds the model: (probe, facts)."""
    d = json.loads(out)
    facts = {k: d[k] for k in ("arithmetic", "bytes_per_token", "kv_bytes_per_position", "flops_per_token")}
    return d["roofline"], facts


# ---- drover

def _drover(program, job):
    t = ["-t", str(job["threads"])] + program.get("flags", [])
    if job["kind"] == "first":
        return program["argv"] + ["run", job["file"], job["prompt"], "--raw", "-n", "1", "--temp", "0", "-q"] + t
    c = program["argv"] + ["bench", job["file"], "--json"] + t
    if job["kind"] == "short":
        return c + ["-p", str(job["p"]), "-n", str(job["n"]), "-r", str(job["reps"])]
    if job["kind"] == "batch":
        return c + ["-p", "0", "-n", str(job["n"]), "-r", "1", "-d", str(job["held"]),
                    "-b", ",".join(map(str, job["batches"]))]
    return c + ["-p", "0", "-n", str(job["n"]), "-r", "1", "-d", str(job["depth"]), "--kv-type", job["kv"]]


def _from_drover(job, out):
    d = json.loads(out)
    got = {}
    for row in d["prefill"]:
        got["prefill %d" % row["tokens"]] = row["tok_s"]
    for row in d["decode"]:
        if job["kind"] == "short":
            got["decode %d" % row["steps"]] = row["tok_s"]
        elif job["kind"] == "batch":
            got["batch %d" % row["batch"]] = row["tok_s"]
        else:
            got["depth %d %s" % (row["depth"], job["kv"])] = row["tok_s"]
    for row in d["fill"] if job["kind"] == "depth" else []:
        got["fill %d %s" % (row["to"], job["kv"])] = [row["tok_s"]]
    return _all_of(job, got)


# ---- llama.cpp and what descends from it

def _llama(program, job):
    exe = program["exe"][job["kind"]]
    c = [os.path.join(program["dir"], exe), "-m", job["file"], "-t", str(job["threads"])] + program["flags"][exe]
    if job["kind"] == "short":
        return c + ["-p", str(job["p"]), "-n", str(job["n"]), "-r", str(job["reps"]), "-o", "json"]
    if job["kind"] == "batch":
        b = job["batches"]          # the prompt is shared, as drover's is: ik_llama.cpp's program fails otherwise
        return c + ["-c", str(max(b) * (job["held"] + job["n"]) + 256), "-npp", str(job["held"]), "-ntg", str(job["n"]),
                    "-npl", ",".join(map(str, b)), "-pps"]
    if job["kind"] == "depth":
        return c + ["-c", str(job["depth"] + job["n"] + 256), "-npp", str(job["depth"]), "-ntg", str(job["n"]),
                    "-npl", "1", "-b", "2048", "-ub", "512", "-ctk", job["kv"], "-ctv", job["kv"]]
    return c + ["-p", job["prompt"], "-n", "1", "--temp", "0", "-c", "512"]


def _from_llama_bench(job, out):
    start = out.find("[")           # some versions print a line before
    rows = json.loads(out[start:]) if start >= 0 else []
    got = {}
    for row in rows:
        name = "prefill %d" % row["n_prompt"] if not row["n_gen"] else "decode %d" % row["n_gen"]
        got[name] = row["samples_ts"]
    return _all_of(job, got)


def _from_batched_bench(job, out):
    """A table: PP, TG, B, N_KV, T_PP s, S_PP t/s, T_TG s, S_TG t/s, T s, S t/s."""
    got = {}
    for line in out.splitlines():
        cells = [x.strip() for x in line.strip().strip("|").split("|")]
        if len(cells) != 10 or not re.fullmatch(r"\d+", cells[0]):
            continue
        pp, batch, s_pp, s_tg = int(cells[0]), int(cells[2]), float(cells[5]), float(cells[7])
        if job["kind"] == "batch":
            got["batch %d" % batch] = [s_tg]
        else:
            got["fill %d %s" % (pp, job["kv"])] = [s_pp]
            got["depth %d %s" % (pp, job["kv"])] = [s_tg]
    return _all_of(job, got)


def _all_of(job, got):
    lack = [m for m in wanted(job) if m not in got]
    if lack:
        raise ValueError("the answer has no %s" % " and no ".join(lack))
    return {m: got[m] for m in wanted(job)}


def drover_version(path, root):
    """What it says, and the commit of the tree it lies in, or else what its bytes hash to."""
    r = subprocess.run([path, "--version"], capture_output=True, text=True)
    if r.returncode:
        raise install.Missing("%s --version ended with %d" % (path, r.returncode))
    if os.path.dirname(os.path.realpath(path)) == root and shutil.which("git"):
        g = subprocess.run(["git", "-C", root, "describe", "--always", "--abbrev=10", "--dirty", "--exclude=*"],
                           capture_output=True, text=True)
        if not g.returncode:
            return r.stdout.strip() + " " + g.stdout.strip()
    with open(path, "rb") as f:
        return "%s sha256 %s" % (r.stdout.strip(), hashlib.sha256(f.read()).hexdigest()[:10])
