"""Starts and measures processes ahead of everything else on the machine, one at a time under a lock.

Each process leads a session of its own and so a scheduler autogroup of its own, raised to -20 where that is allowed:
a background job of another session slows the barriers of two threads by far more than its share, however nice it is.
"""
import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time

NOISY = 0.1  # share of the machine that others took: such a sample is taken again
RETRIES = 2
TICKS = os.sysconf("SC_CLK_TCK")
PRIORITY = -20


@contextlib.contextmanager
def locked(path):
    """Holds a lock file, so that others who take the same lock do not run beside; no path, no lock."""
    if path is None:
        yield
        return
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    time.sleep(0.1)  # whoever waits for the lock gets it before the next sample asks again


def start(command, environment=None, priority=PRIORITY, **pipes):
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, start_new_session=True, text=True,
                               **pipes)
    try:
        with open(f"/proc/{process.pid}/autogroup", "w", encoding="utf-8") as file:
            file.write(str(priority))
    except OSError:
        pass  # not root, or a kernel without autogroups: the share of others tells what it cost
    return process


def machine_cpu_seconds():
    """CPU time of the whole machine since it started, idle and waiting left out."""
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _idle, _wait, irq, softirq, stolen = (int(x) for x in file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + stolen) / TICKS


def process_cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Meter:
    """Share of the machine's CPUs that went to others between its making and others_share()."""

    def __init__(self):
        self.start, self.busy = time.monotonic(), machine_cpu_seconds()

    def others_share(self, own_seconds):
        available = (time.monotonic() - self.start) * os.cpu_count()
        return max(0.0, (machine_cpu_seconds() - self.busy - own_seconds) / available) if available > 0 else 0.0


def least_disturbed(take, lock=None):
    """A sample from take(); where others took much of the machine, the least disturbed of a few."""
    best = None
    for _ in range(1 + RETRIES):
        with locked(lock):
            sample = take()
        if best is None or sample["others_share"] < best["others_share"]:
            best = sample
        if best["others_share"] <= NOISY:
            break
    return best


class Failure(Exception):
    """A program that could not be started or ended badly; the message names it and quotes its last words."""


def last_words(text):
    return " | ".join(line.strip() for line in text.strip().splitlines()[-3:])[-400:]


@contextlib.contextmanager
def busy_cpu():
    """Another program keeps the last of this process's CPUs busy."""
    process = start([sys.executable, "-c", "while True: pass"], priority=0)
    try:
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        yield
    finally:
        process.kill()
        process.wait()


def run(command, environment=None, priority=PRIORITY):
    """Runs a command to its end. Returns its standard output, peak resident bytes and the share of others."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        meter = Meter()
        try:
            process = start(command, environment, priority, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            raise Failure(f"{command[0]}: {error.strerror}") from None
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # an interrupt: its own session does not get it
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        others = meter.others_share(usage.ru_utime + usage.ru_stime)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            raise Failure(f"{' '.join(command)}: exit {process.returncode}: {last_words(err.read())}")
        return out.read(), usage.ru_maxrss * 1024, others
