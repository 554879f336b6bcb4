"""The programs that serve: how each is started on a file, whether it answers yet, what it used, and how it ends."""
import os
import signal
import socket
import subprocess
import sys
import time

from peerlib import runner

from . import client

TICK = os.sysconf("SC_CLK_TCK")

# drover first: ratios are of it to the others. Flags beside these come from --drover and --peer-flags.
KINDS = ("drover", "llama-server")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def command(program, job, port):
    """The argument list that serves a job's file: each program gets room for what the job has at once and no more."""
    positions = job["prefix"] + job["prompt"] + job["gen"]
    if program["kind"] == "drover":
        return program["argv"] + ["serve", job["file"], "--port", str(port), "-t", str(job["threads"])] + \
            drover_room(job["concurrency"], positions) + program["flags"]
    each = -(-(positions + 8) // 256) * 256          # a slot's share, in its unit
    return program["argv"] + ["-m", job["file"], "--port", str(port), "--host", "127.0.0.1", "-t", str(job["threads"]),
                              "-np", str(job["concurrency"]), "-c", str(each * job["concurrency"])] + program["flags"]


def drover_room(concurrency, positions):
    return []


class Server:
    """A running program. Its log is a file; `stop` returns what it ended with."""

    def __init__(self, name, argv, port, log, env=None):
        self.name, self.argv, self.port, self.logfile = name, argv, port, log
        self.log = open(log, "ab")
        try:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                         env=dict(os.environ, **(env or {})), **runner.OWN_GROUP)
        except OSError as e:
            self.log.close()
            raise runner.Failed("%s: %s" % (argv[0], e.strerror))

    def wait(self, path, timeout):
        """Until it answers 200 on path."""
        until = time.monotonic() + timeout
        while True:
            if self.proc.poll() is not None:
                raise runner.Failed("ended with %d before it served: %s" % (self.proc.returncode, self.tail()))
            try:
                if client.call(self.port, "GET", path, timeout=5)[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > until:
                raise runner.Failed("does not answer %s after %g s: %s" % (path, timeout, self.tail()))
            time.sleep(0.02)

    def tail(self):
        with open(self.logfile, "rb") as f:
            lines = f.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing in its log"

    def alive(self):
        return self.proc.poll() is None

    def cpu(self):
        """Seconds of processor time so far."""
        try:
            with open("/proc/%d/stat" % self.proc.pid) as f:
                w = f.read().rpartition(")")[2].split()
            return (int(w[11]) + int(w[12])) / TICK
        except (OSError, IndexError):
            return float("nan")

    def status(self, key):
        """A figure of /proc/PID/status: VmRSS, VmHWM (KB), RssAnon, Threads; 0 when it is gone."""
        try:
            with open("/proc/%d/status" % self.proc.pid) as f:
                for line in f:
                    if line.startswith(key + ":"):
                        return int(line.split()[1])
        except (OSError, ValueError):
            pass
        return 0

    def files(self):
        try:
            return len(os.listdir("/proc/%d/fd" % self.proc.pid))
        except OSError:
            return 0

    def stop(self, grace=30):
        """Its exit status after SIGTERM; killed when it does not end."""
        if self.alive():
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(grace)
            except subprocess.TimeoutExpired:
                print("%s did not end %g s after SIGTERM" % (self.name, grace), file=sys.stderr)
                self.kill()
        if not self.log.closed:
            self.log.close()
        return self.proc.returncode

    def kill(self):
        runner.kill(self.proc)
        self.proc.wait()


def ready_path(kind):
    return "/ready" if kind == "drover" else "/health"
