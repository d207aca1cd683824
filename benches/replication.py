#!/usr/bin/env python3
"""What a replica costs, beside redis-server with one: python3 benches/replication.py [--binary PATH] [--dry]

- streaming: SET at full load with and without a replica: requests/s, CPU of primary and replica, how long the replica lags.
- snapshot: a new replica of a primary with a million keys, while clients read and write at a fixed rate: their p99 before and
  meanwhile, the primary's memory at its highest, how long the replica takes.
- away: a replica that is stopped for a minute of full load: how it comes back, and how long that takes.
- majority: one client that writes and waits for one replica: write-concern majority here, WAIT 1 after each SET there.

Larder and redis-server (append-only file, everysec) take turns, a pair of servers each. Writes its tables into docs/benchmarks.md.
"""

import argparse
import multiprocessing
import os
import re
import statistics
import subprocess
import threading
import time

import report
import servers
from servers import encode

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "benchmarks.md")
SCRATCH = os.path.join(ROOT, "target", "bench")
VALUE = b"x" * 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["streaming", "snapshot", "away", "majority"])
    parser.add_argument("--binary", help="measure this binary instead of building one")
    parser.add_argument("--port", type=int, default=7360, help="the first of four ports")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="how long a load lasts, roughly")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=2000, help="requests/s of the clients while a replica is made")
    parser.add_argument("--away", type=float, default=60, help="seconds that a replica is away")
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    if options.binary is None:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
        options.binary = os.path.join(ROOT, "target", "release", "larder")
    os.makedirs(SCRATCH, exist_ok=True)
    for part in options.parts:
        section = globals()[part](options)
        print(section, flush=True)
        if not options.dry:
            about = f"Commit {report.output('git', '-C', ROOT, 'rev-parse', '--short=10', 'HEAD')}, load average before: {os.getloadavg()[0]:.1f}."
            report.write(PAGE, {f"replication-{part}": section + "\n\n" + about})


def pairs(options):
    """Name, primary and replica of each kind; not started."""
    port = options.port
    folder = lambda name: os.path.join(SCRATCH, name)
    follow = lambda at: ["--replicaof", "127.0.0.1", str(at)]
    return [
        (
            "Larder",
            servers.larder(options.binary, port, folder("larder-primary")),
            servers.larder(options.binary, port + 1, folder("larder-replica"), *follow(port)),
        ),
        (
            "redis-server",
            servers.redis_aof(port + 2, folder("redis-primary"), "--repl-diskless-sync-delay", "0"),
            servers.redis_aof(port + 3, folder("redis-replica"), *follow(port + 2)),
        ),
    ]


def info(client, field):
    found = re.search(rb"^%s:(.*?)\r?$" % field.encode(), client("INFO", "replication"), re.M)
    return found and found[1].decode()


def await_that(condition, at_most=300):
    end = time.monotonic() + at_most
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("not in time")
        time.sleep(0.002)


def await_link(replica):
    client = replica.client()
    await_that(lambda: info(client, "master_link_status") == "up")
    client.close()


def benchmark(server, pipeline, requests, clients=50, load="set"):
    command = ["redis-benchmark", "-p", server.port, "-c", clients, "-P", pipeline, "-n", requests, "-r", 1_000_000]
    command += ["-d", len(VALUE), "-t", load, "--precision", 3]
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return float(re.search(r"throughput summary: ([\d.]+)", run.stdout)[1])


def median(values):
    return statistics.median(values)


# --- streaming


def streaming(options):
    rows = []
    for pipeline, expected in [(1, 60_000), (16, 250_000)]:
        found = {}
        for _ in range(options.rounds):
            for name, primary, replica in pairs(options):
                found.setdefault(name, []).append(stream_once(primary, replica, pipeline, int(expected * options.seconds)))
        for name, rounds in found.items():
            column = lambda key: median([one[key] for one in rounds])
            rows.append([
                name,
                pipeline,
                report.thousands(column("alone")),
                report.thousands(column("rate")),
                f"{column('rate') / column('alone'):.2f}",
                f"{column('cpu_alone'):.2f}",
                f"{column('cpu'):.2f}",
                f"{column('cpu_replica'):.2f}",
                report.milliseconds(column("lag")),
            ])
    head = ["server", "pipeline", "alone", "with a replica", "×", "CPU alone", "CPU with", "replica's CPU", "behind at the end"]
    return "\n".join([
        "### A replica under full load\n",
        f"SET of 100 B from 50 connections, medians of {options.rounds} rounds, primary and replica on the same two cores with the load. Rates in "
        "requests/s, CPU in seconds per million requests. *Behind at the end*: from the last reply until the replica has everything.\n",
        report.table(head, rows),
    ])


def stream_once(primary, replica, pipeline, requests):
    primary.start()
    cpu = primary.cpu_seconds()
    alone = benchmark(primary, pipeline, requests)
    primary.settle()
    cpu_alone = primary.cpu_seconds() - cpu
    replica.start()
    await_link(replica)
    benchmark(primary, pipeline, requests // 10)
    primary.settle()
    replica.settle()
    before = primary.cpu_seconds(), replica.cpu_seconds()
    rate = benchmark(primary, pipeline, requests)
    ended = time.perf_counter()
    client = primary.client()
    client("SET", "last", "x")
    client("WAIT", 1, 60_000)
    lag = time.perf_counter() - ended
    primary.settle()
    replica.settle()
    million = requests / 1e6
    result = {
        "alone": alone,
        "rate": rate,
        "cpu_alone": cpu_alone / million,
        "cpu": (primary.cpu_seconds() - before[0]) / million,
        "cpu_replica": (replica.cpu_seconds() - before[1]) / million,
        "lag": lag,
    }
    replica.kill()
    primary.kill()
    return result


# --- snapshot


class Steady(multiprocessing.Process):
    """A client that sends SET and GET in turns at a fixed rate, and notes how long each takes from when it was due. A process of
    its own: a thread would wait for those that watch the servers."""

    def __init__(self, port, rate, keys):
        super().__init__(daemon=True)
        self.port, self.gap, self.keys = port, 1 / rate, keys
        self.ending, self.results = multiprocessing.Event(), multiprocessing.SimpleQueue()

    def run(self):
        self.client, times = servers.Client(self.port), []
        due, number = time.perf_counter(), 0
        while not self.ending.is_set():
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            number = (number * 1103515245 + 12345) % self.keys
            key = b"key:%012d" % number
            self.client(*((b"SET", key, VALUE) if number % 2 else (b"GET", key)))
            times.append((due, time.perf_counter() - due))
            due += self.gap
        self.results.put(times)

    def end(self):
        """Ends it: when each request was due, and how long it took."""
        self.ending.set()
        times = self.results.get()
        self.join()
        return times


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def snapshot(options):
    rows = []
    found = {}
    for _ in range(options.rounds):
        for name, primary, replica in pairs(options):
            found.setdefault(name, []).append(snapshot_once(primary, replica, options))
    # Reading what memory a process has holds it up for milliseconds: in a round of its own.
    memory = {name: snapshot_once(primary, replica, options, watched=True) for name, primary, replica in pairs(options)}
    for name, rounds in found.items():
        column = lambda key: median([one[key] for one in rounds])
        rows.append([
            name,
            report.milliseconds(column("before")),
            report.milliseconds(column("during")),
            f"{column('during') / column('before'):.1f}",
            report.milliseconds(column("worst")),
            report.megabytes(memory[name]["memory"]),
            report.megabytes(memory[name]["memory_peak"]),
            report.milliseconds(column("took")),
        ])
    head = ["server", "p99 before", "p99 meanwhile", "×", "worst", "memory before", "highest meanwhile", "until in step"]
    return "\n".join([
        "### A new replica\n",
        f"A primary with {options.keys:,} keys of 100 B whose journal (backlog) does not reach back; {options.rate} requests/s, half of them SET, "
        f"half GET, whose latency is taken from when they were due; medians of {options.rounds} rounds. Memory is that of the primary and its "
        "children in another round: own pages.\n",
        report.table(head, rows),
    ])


def snapshot_once(primary, replica, options, watched=False):
    primary.start()
    client = primary.client()
    client("CONFIG", "SET", "repl-backlog-size", "1mb" if primary.name == "larder" else "16mb")
    client.pipeline(encode(b"SET", b"key:%012d" % number, VALUE) for number in range(options.keys))
    for _ in range(2):
        primary.checkpoint()
        client.pipeline(encode(b"SET", b"key:%012d" % number, VALUE) for number in range(options.keys // 20))
    primary.checkpoint()
    steady = [Steady(primary.port, options.rate / 4, options.keys) for _ in range(4)]
    memory = own_memory(primary.process.pid)
    for one in steady:
        one.start()
    time.sleep(5)
    begun = time.perf_counter()
    replica.start()
    # From here on: what a process costs to start, on the clients' processors, it costs on another machine.
    answers = time.perf_counter()
    peak, link = memory, replica.client()
    while info(link, "master_link_status") != "up":
        peak = max(peak, own_memory(primary.process.pid)) if watched else peak
        time.sleep(0.02)
    ended = time.perf_counter()
    times = [taken for one in steady for taken in one.end()]
    before = [took for due, took in times if due < begun - 0.5]
    during = [took for due, took in times if answers <= due < ended]
    replica.kill()
    primary.kill()
    return {
        "before": percentile(before, 0.99),
        "during": percentile(during, 0.99),
        "worst": max(during),
        "memory": memory,
        "memory_peak": peak,
        "took": ended - begun,
    }


def own_memory(pid):
    """Bytes of own pages of a process and its children; pages that a fork shares count once a process that wrote to them."""
    total = 0
    for one in [pid, *servers.children(pid)]:
        try:
            with open(f"/proc/{one}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Private_Dirty:"))
        except OSError:
            pass
    return total


# --- away


def away(options):
    rows = []
    for name, primary, replica in pairs(options):
        primary.start()
        replica.start()
        await_link(replica)
        benchmark(primary, 1, 100_000)
        replica.stop() if name == "Larder" else replica.kill()
        missed, end = 0, time.monotonic() + options.away
        while time.monotonic() < end:
            benchmark(primary, 1, 200_000)
            missed += 200_000
        begun = time.perf_counter()
        replica.start()
        client = primary.client()
        client("SET", "last", "x")
        await_that(lambda: client("WAIT", 1, 100) >= 1)
        took = time.perf_counter() - begun
        log = open(os.path.join(replica.folder, "log")).read() + open(os.path.join(primary.folder, "log")).read()
        how = "a copy of everything" if "receiving a snapshot" in log or log.count("Full resync requested") > 1 else "what it missed"
        rows.append([name, f"{missed:,}", how, report.milliseconds(took)])
        replica.kill()
        primary.kill()
    return "\n".join([
        f"### A replica that was away for {options.away:g} s\n",
        "SET of 100 B from 50 connections at full rate meanwhile. redis-server keeps its backlog in memory, 1 MB unless configured otherwise; Larder "
        "keeps the journal that it has anyway, 1 GB.\n",
        report.table(["server", "requests missed", "got", "until in step"], rows),
    ])


# --- majority


def majority(options):
    rows = []
    found = {}
    for _ in range(options.rounds):
        for name, primary, replica in pairs(options):
            found.setdefault(name, []).append(majority_once(name, primary, replica, options))
    for name, rounds in found.items():
        local, held, p99 = (median([one[key] for one in rounds]) for key in ["local", "held", "p99"])
        rate = median([one["rate"] for one in rounds])
        how = "write-concern majority" if name == "Larder" else "WAIT 1 in the same packet"
        rows.append([name, how, report.milliseconds(local), report.milliseconds(held), report.milliseconds(held - local), report.milliseconds(p99), report.thousands(rate)])
    head = ["server", "how", "SET, p50", "held, p50", "more", "held, p99", "held, 16 clients, requests/s"]
    return "\n".join([
        "### Writes that wait for a replica\n",
        f"One client on loopback that sends a SET of 100 B, waits for the reply, and sends the next; {options.rounds} rounds of {options.seconds:g} s, medians. "
        "Then 16 such clients at a time.\n",
        report.table(head, rows),
    ])


def majority_once(name, primary, replica, options):
    primary.start()
    replica.start()
    await_link(replica)
    plain = encode("SET", "key", VALUE)
    local = [one for one in timed(primary, plain, 1, options.seconds / 2)]
    if name == "Larder":
        primary.client()("CONFIG", "SET", "write-concern", "majority")
        request, replies = plain, 1
    else:
        request, replies = plain + encode("WAIT", 1, 0), 2
    held = timed(primary, request, replies, options.seconds / 2)
    counts, threads = [], []
    for _ in range(16):
        threads.append(threading.Thread(target=lambda: counts.append(len(timed(primary, request, replies, options.seconds / 2)))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    replica.kill()
    primary.kill()
    return {
        "local": median(local),
        "held": median(held),
        "p99": percentile(held, 0.99),
        "rate": sum(counts) / (options.seconds / 2),
    }


def timed(server, request, replies, seconds):
    """How long each request takes, one after the other."""
    client, times = server.client(), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        client.send(request)
        for _ in range(replies):
            client.read()
        times.append(time.perf_counter() - begun)
    client.close()
    return times


if __name__ == "__main__":
    main()
