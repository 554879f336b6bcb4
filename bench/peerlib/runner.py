"""The rounds: each program in turn on the same file, a probe of the machine before the first and after each, everything
written down as it comes. A program that fails or takes too long is written down as such, and the rest goes on."""
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

from . import programs as P

FLAGS = ("avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 avx_vnni amx_tile amx_int8 amx_bf16 "
         "asimddp i8mm bf16 sve sve2").split()


def machine():
    info = {"processor": platform.machine(), "flags": [], "cpus": len(os.sched_getaffinity(0)), "memory_gb": 0,
            "kernel": platform.release().split("-")[0]}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = (x.strip() for x in line.partition(":"))
            if key == "model name":
                info["processor"] = value
            elif key in ("flags", "Features"):
                info["flags"] = [x for x in FLAGS if x in value.split()]
    with open("/proc/meminfo") as f:
        info["memory_gb"] = round(int(f.readline().split()[1]) / 1048576, 1)
    return info


def load(path):
    with open(path) as f:
        return json.load(f)


def save(results, path):
    """Never a half-written file."""
    with open(path + ".part", "w") as f:
        f.write(dump(results))
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".part", path)


def dump(results):
    """JSON with one round on each line: large files of it stay readable, and small to compare."""
    head = {k: v for k, v in results.items() if k != "rounds"}
    rounds = ",\n".join(json.dumps(r, ensure_ascii=False) for r in results["rounds"])
    return json.dumps(head, indent=1, ensure_ascii=False)[:-2] + ',\n "rounds": [\n' + rounds + "\n]}\n"


def others_ticks():
    """Seconds of processor time, all processors together, that went to neither idling nor what we started; time that a
    virtual machine's host kept for itself is among them."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, soft, steal = (int(x) for x in f.readline().split()[1:9])
    own = os.times()
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK") - \
        (own.user + own.system + own.children_user + own.children_system)


class Failed(Exception):
    pass


def finish(proc, timeout):
    """Its output; killed with all that it started when its time is over or we are interrupted."""
    try:
        return proc.communicate(timeout=timeout)
    except BaseException:
        kill(proc)
        proc.communicate()
        raise


def kill(proc):
    """With all that it started; nothing happens when it has ended."""
    if proc.poll() is None:
        try:
            os.killpg(proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


# a process group of its own, which `kill` ends whole
OWN_GROUP = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}


def start(argv, cwd):
    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, **OWN_GROUP)
    except OSError as e:
        raise Failed("%s: %s" % (argv[0], e.strerror))


def output(argv, timeout, cwd):
    """(standard output, standard error) of a run that ended well."""
    proc = start(argv, cwd)
    try:
        out, err = finish(proc, timeout)
    except subprocess.TimeoutExpired:
        raise Failed("still running after %g s" % timeout)
    if proc.returncode:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["nothing on standard error"]
        raise Failed("ended with %d: %s" % (proc.returncode, last[0]))
    return out.decode(errors="replace"), err.decode(errors="replace")


def first_byte(argv, timeout, cwd):
    """Seconds from the start of the process to the first byte on its standard output. A model of random weights may end
    at once, without text: then to the end of its output."""
    t = time.monotonic()
    proc = start(argv, cwd)
    timer = threading.Timer(timeout, kill, [proc])
    timer.start()
    threading.Thread(target=proc.stderr.read, daemon=True).start()
    try:
        os.read(proc.stdout.fileno(), 1)
        t = time.monotonic() - t
        while os.read(proc.stdout.fileno(), 65536):
            pass
        rc = proc.wait()
    finally:
        timer.cancel()
        kill(proc)
        proc.wait()
    if rc:
        raise Failed("still running after %g s" % timeout if rc == -signal.SIGKILL else "ended with %d" % rc)
    return t


def same(job):
    """What rounds of one job have in common."""
    return tuple(job.get(k) for k in ("model", "threads", "kind", "depth", "kv"))


class Runner:
    """programs: the list of dicts {name, kind, argv | dir, exe, flags, pages}, the first is drover, which probes too."""

    def __init__(self, progs, results, path, timeout, say, cwd):
        self.progs, self.results, self.path, self.timeout, self.say, self.cwd = progs, results, path, timeout, say, cwd
        self.took = {same(r["job"]): r.get("seconds", 0) for r in results["rounds"]}
        self.turn0 = 1 + max((r["turn"] for r in results["rounds"]), default=-1)

    def probe(self, job):
        try:
            roof, facts = P.probe_answer(output(P.probe_command(self.progs[0], job), self.timeout, self.cwd)[0])
        except (Failed, ValueError, KeyError) as e:
            self.say("  the probe failed: %s" % e)
            return None
        job.update(facts)
        return {k: float("%.5g" % v) for k, v in roof.items()}

    def one(self, prog, job):
        argv = P.command(prog, job)
        run = {"program": prog["name"], "command": shown(argv)}
        t, busy = time.monotonic(), others_ticks()
        try:
            if job["kind"] == "first":
                run["values"] = {P.wanted(job)[0]: [first_byte(argv, self.timeout, self.cwd)]}
            else:
                run["values"] = P.answer(prog, job, *output(argv, self.timeout, self.cwd))
            run["values"] = {k: [float("%.5g" % x) for x in v] for k, v in run["values"].items()}
        except (Failed, ValueError, KeyError) as e:
            run["error"] = str(e)
        t = time.monotonic() - t
        run["seconds"] = round(t, 2)
        cpus = os.cpu_count()
        busy = others_ticks() - busy - 0.01 * cpus          # the kernel counts in hundredths of a second
        run["others"] = round(min(1.0, max(0.0, busy / (t * cpus))), 3)
        return run

    def round(self, job, turn):
        """One round of one job; what there is of it is kept whatever happens."""
        k = turn % len(self.progs)
        rnd = {"turn": turn, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
               "load": [round(x, 2) for x in os.getloadavg()][:1], "job": None, "probes": [], "runs": []}
        t = time.monotonic()
        try:
            rnd["probes"].append(self.probe(job))
            for prog in self.progs[k:] + self.progs[:k]:
                run = self.one(prog, job)
                run["probe"] = len(rnd["probes"]) - 1
                rnd["runs"].append(run)
                rnd["probes"].append(self.probe(job))
                got = ", ".join("%s %.4g" % (m, v[len(v) // 2]) for m, v in run.get("values", {}).items())
                self.say("  %-14s %5.1f s: %s" % (prog["name"], run["seconds"], got or run["error"]))
        finally:
            if rnd["runs"] and "arithmetic" in job:
                rnd["job"] = {k: v for k, v in job.items() if k not in ("file", "prompt")}
                rnd["seconds"] = round(time.monotonic() - t, 1)
                self.results["rounds"].append(rnd)
                save(self.results, self.path)
        self.took[same(job)] = time.monotonic() - t

    def all(self, jobs, rounds, enough, until=None):
        """Rounds of all jobs, until `enough` says so for a job, or there were `rounds` of it. until: a time.monotonic()
        before which the last must have ended."""
        for turn in range(rounds):
            for job in jobs:
                if turn and enough(job):
                    continue
                if until and time.monotonic() + self.took.get(same(job), 0) > until:
                    self.say("the time is over")
                    return
                self.say("round %d: %s, %s, %d thread%s" % (turn + 1, job["model"], "/".join(P.wanted(job)),
                                                            job["threads"], "s" * (job["threads"] > 1)))
                self.round(job, self.turn0 + turn)


def shown(argv):
    """A command without the folders of this machine."""
    return " ".join(os.path.basename(a) if a.startswith("/") else a if " " not in a else '"…"' for a in argv)
