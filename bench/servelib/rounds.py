"""The rounds: each program in turn serves the same file to the same requests, with a probe of the machine before the first
and after each (as bench/peers does), and everything is written down as it comes.

A job is a dict: file, model, threads, concurrency, prefix (tokens that all prompts share), prompt (tokens of each one's
own), gen, requests. A job of concurrency 1 is measured beside `drover bench` too, a program of its own kind."""
import json
import os
import statistics
import time

from peerlib import programs, runner

from . import client, servers


def percentile(values, p):
    v = sorted(values)
    return v[min(len(v) - 1, int(p / 100 * len(v)))]


def busy():
    """Seconds of all processors that went to something, the host's share (steal) among them."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, soft, steal = (int(x) for x in f.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / servers.TICK


def own():
    t = os.times()
    return t.user + t.system


def body(job, ids):
    return {"model": "", "prompt": ids, "max_tokens": job["gen"], "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}}


def wrong(job, requests):
    """What is the matter with the first request that did not go as asked; None: nothing."""
    for r in requests:
        if not r.good():
            return "%s%s" % ("%d: " % r.status if r.status else "", r.error or "incomplete")
        if r.tokens() != job["gen"]:
            return "%s tokens came, not %d" % (r.tokens(), job["gen"])
        n = (r.usage or {}).get("prompt_tokens", job["length"])
        if n != job["length"]:
            return "the server counts %s tokens of prompt, not %d" % (n, job["length"])
    return None


def figures(job, requests, seconds, cpu, loader):
    # a reply whose tokens are no whole character has no first text
    firsts = [(r.first or r.ended) - r.began for r in requests]
    gaps = [g for r in requests for g in r.gaps]
    tokens = sum(r.tokens() for r in requests)
    v = {"tok_s": tokens / seconds, "first_mean": statistics.fmean(firsts), "first_p50": percentile(firsts, 50),
         "first_p99": percentile(firsts, 99), "whole_mean": statistics.fmean([r.ended - r.began for r in requests]),
         "cpu_ms_token": 1000 * cpu / tokens, "loader": loader / seconds}
    if gaps:
        v.update(gap_p50=percentile(gaps, 50), gap_p99=percentile(gaps, 99))
    rates = [(r.tokens() - 1) / (r.last - r.first) for r in requests if r.last and r.last > r.first]
    if rates:
        v["decode"] = statistics.median(rates)
    return v


class Runner:
    def __init__(self, progs, results, path, timeout, say, folder):
        self.progs, self.results, self.path = progs, results, path
        self.timeout, self.say, self.folder = timeout, say, folder
        self.turn0 = 1 + max([r["turn"] for r in results["rounds"]], default=-1)

    def probe(self, job):
        argv = programs.probe_command(self.progs[0], job)
        try:
            roof, facts = programs.probe_answer(runner.output(argv, self.timeout, self.folder)[0])
        except (runner.Failed, ValueError, KeyError) as e:
            self.say("  the probe failed: %s" % e)
            return None
        job["arithmetic"] = facts["arithmetic"]
        return {k: float("%.5g" % v) for k, v in roof.items()}

    def serve(self, prog, job, text, turn):
        """One program serves the job's requests: a run."""
        port = servers.free_port()
        argv = servers.command(prog, job, port)
        run = {"program": prog["name"], "command": runner.shown(argv)}
        ids = text.prompts(job["requests"], job["prompt"], job["prefix"], turn)
        job["length"] = len(ids[0])
        requests = [client.Request("/v1/completions", body(job, x)) for x in ids]
        log = os.path.join(self.folder, prog["name"] + ".log")
        began = time.monotonic()
        server = None
        try:
            server = servers.Server(prog["name"], argv, port, log)
            server.wait(servers.ready_path(prog["kind"]), self.timeout)
            run["start"] = round(time.monotonic() - began, 3)
            warm = client.Request("/v1/completions", body(dict(job, gen=4), text.prompts(1, 16, 0, -1)[0]))
            client.Load(port).run([warm], 1, self.timeout)
            if not warm.good():
                raise runner.Failed("the first request: %s" % (warm.error or warm.status))
            b, c, o, t = busy(), server.cpu(), own(), time.monotonic()
            client.Load(port).run(requests, job["concurrency"], self.timeout)
            t, o, c, b = time.monotonic() - t, own() - o, server.cpu() - c, busy() - b
            run["rss_mb"] = [round(server.status(k) / 1024) for k in ("VmRSS", "RssAnon")]
            bad = wrong(job, requests)
            if bad:
                raise runner.Failed("%d of %d requests: %s" % (sum(not r.good() for r in requests), len(requests), bad))
            run["values"] = figures(job, requests, t, c, o)
            run["cached"] = sum(((r.usage or {}).get("prompt_tokens_details") or {}).get("cached_tokens", 0) for r in requests)
            run["others"] = self.others(b - c - o, t)
        except runner.Failed as e:
            run["error"] = str(e)
        finally:
            if server:
                rc = server.stop()
                if rc and prog["kind"] == "drover" and "error" not in run:
                    run["error"] = "ended with %d after SIGTERM: %s" % (rc, server.tail())
        run["seconds"] = round(time.monotonic() - began, 2)
        return run

    @staticmethod
    def others(seconds, t):
        """The part of the processors' time that went to anybody else; the kernel counts in hundredths of a second."""
        cpus = os.cpu_count()
        return round(min(1.0, max(0.0, (seconds - 0.01 * cpus) / (t * cpus))), 3)

    def bench(self, prog, job):
        """drover bench: decoding alone, after as long a prompt."""
        argv = prog["argv"] + ["bench", job["file"], "--json", "-t", str(job["threads"]), "-p", "0", "-n", str(job["gen"]),
                               "-d", str(job["prefix"] + job["prompt"]), "-r", str(job["requests"])]
        run = {"program": prog["name"], "command": runner.shown(argv)}
        b, t = runner.others_ticks(), time.monotonic()
        try:
            d = json.loads(runner.output(argv, self.timeout, self.folder)[0])
            run["values"] = {"decode": statistics.median(d["decode"][0]["tok_s"])}
        except (runner.Failed, ValueError, KeyError, IndexError) as e:
            run["error"] = str(e)
        t = time.monotonic() - t
        run["others"] = self.others(runner.others_ticks() - b, t)
        run["seconds"] = round(t, 2)
        return run

    def round(self, job, text, turn):
        progs = [p for p in self.progs if p["kind"] != "bench" or job["concurrency"] == 1]
        k = turn % len(progs)
        rnd = {"turn": turn, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
               "load": [round(os.getloadavg()[0], 2)], "job": None, "probes": [], "runs": []}
        t = time.monotonic()
        try:
            rnd["probes"].append(self.probe(job))
            for prog in progs[k:] + progs[:k]:
                run = self.bench(prog, job) if prog["kind"] == "bench" else self.serve(prog, job, text, turn)
                run["probe"] = len(rnd["probes"]) - 1
                if "values" in run:
                    run["values"] = {m: float("%.5g" % v) for m, v in run["values"].items()}
                rnd["runs"].append(run)
                rnd["probes"].append(self.probe(job))
                self.say("  %-13s %6.1f s: %s" % (prog["name"], run["seconds"], run.get("error") or said(run["values"])))
        finally:
            if rnd["runs"]:
                rnd["job"] = {k: v for k, v in job.items() if k != "file"}
                rnd["seconds"] = round(time.monotonic() - t, 1)
                self.results["rounds"].append(rnd)
                runner.save(self.results, self.path)
        return rnd["seconds"]

    def all(self, jobs, text, rounds, until=None):
        took = {}
        for turn in range(self.turn0, self.turn0 + rounds):
            for n, job in enumerate(jobs):
                if until and time.monotonic() + took.get(n, 0) > until:
                    self.say("the time is over")
                    return
                self.say("round %d: %s, %s" % (turn + 1, job["model"], name(job)))
                took[n] = self.round(job, text, turn)


def name(job):
    """What a job is, for people and as its key in the tables."""
    users = "1 user" if job["concurrency"] == 1 else "%d users" % job["concurrency"]
    prompt = "%d in" % job["prompt"] if not job["prefix"] else "%d shared + %d in" % (job["prefix"], job["prompt"])
    return "%s, %s, %d out" % (users, prompt, job["gen"])


def said(v):
    text = ["%s %.4g" % (m, v[m]) for m in ("tok_s", "decode", "first_mean", "first_p99", "gap_p50", "cpu_ms_token") if m in v]
    return ", ".join(text)
