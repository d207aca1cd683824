#!/usr/bin/env python3
"""Larder beside redis-server on this machine: python3 benches/compare.py [--quick] [--parts speed,restart,...]

Builds the release binary, runs Larder, redis-server with an append-only file (everysec) and redis-server that keeps nothing,
and writes the tables into docs/benchmarks.md. Needs redis-server, redis-benchmark and, for `instructions`, valgrind.

- speed: requests/s, latency and server CPU for each load; all servers are up and filled, and take turns for every
  single load, so that what else the machine does falls on all of them. Figures are medians of the rounds.
- sustained: one write load long enough for several checkpoints (or rewrites of the append-only file) to be part of it.
- restart: from the start of the process to the first right answer. big: what should not depend on size.
- memory: resident pages and bytes on disk. instructions: per request, under callgrind.

CPU is user and system time of the server with all threads and child processes, until it is quiet again after the load.
"""

import argparse
import json
import os
import random
import re
import shlex
import statistics
import subprocess
import sys
import time

import report
import servers
from servers import encode

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "benchmarks.md")
SCRATCH = os.path.join(ROOT, "target", "bench")
PARTS = ["speed", "sustained", "restart", "big", "memory", "instructions"]
FIELDS = 10
VALUES = {"100 B": 100, "1 KB": 1024}

# Name → redis-benchmark's arguments for values of `size` bytes, requests a second to expect at pipeline 1 and 16 (which
# decides how many are sent), and whether the size of values matters. {value} stands for a value of that size.
LOADS = {
    "SET": ("-t set", 1.0, 1.0, True),
    "GET": ("-t get", 1.0, 1.0, True),
    "INCR": ("-t incr", 1.0, 1.0, False),
    "HSET": ("-t hset", 1.0, 1.0, True),
    "HSET, own hash": ("HSET hash:__rand_int__ field {value}", 1.0, 1.0, False),
    "HGETALL": ("HGETALL ten:__rand_int__", 0.9, 0.35, False),
    "MSET": ("-t mset", 0.5, 0.15, True),
}
WRITES = ["SET", "INCR", "HSET", "HSET, own hash", "MSET"]


def main():
    options = arguments()
    if options.binary is None:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
        options.binary = os.path.join(ROOT, "target", "release", "larder")
    os.makedirs(SCRATCH, exist_ok=True)
    sections, results = {}, {}
    for part in options.parts:
        print(f"== {part}", file=sys.stderr, flush=True)
        sections[part], results[part] = globals()[part](options)
        print(sections[part], flush=True)
        if not options.dry:
            report.write(PAGE, {"machine": about(options), part: sections[part]})
    with open(os.path.join(SCRATCH, "results.json"), "w") as file:
        json.dump(results, file, indent=1)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: [word.strip() for word in text.split(";" if ";" in text else ",")]
    parser.add_argument("--parts", type=words, default=PARTS, help=",".join(PARTS))
    parser.add_argument("--loads", type=words, default=list(LOADS), help="; between names: " + "; ".join(LOADS))
    parser.add_argument("--pipelines", type=lambda text: [int(word) for word in words(text)], default=[1, 16])
    parser.add_argument("--sizes", type=words, default=list(VALUES), help=", ".join(VALUES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3, help="how long a load lasts, roughly")
    parser.add_argument("--sustained", type=float, nargs=2, default=[70, 20], help="seconds at pipeline 1 and 16")
    parser.add_argument("--port", type=int, default=7350, help="the first of three ports")
    parser.add_argument("--binary", help="measure this binary instead of building one")
    parser.add_argument("--larder", type=shlex.split, default=[], help="more flags for Larder")
    parser.add_argument("--quick", action="store_true", help="one short round, 100 B only: about three minutes")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/benchmarks.md alone")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.sizes = 1, 1.5, ["100 B"]
        if options.parts == PARTS:
            options.parts = ["speed", "restart", "big", "memory"]
    return options


def about(options):
    words = list(sys.argv[1:])
    if "--binary" in words:  # A path of this machine says nothing to others.
        at = words.index("--binary")
        del words[at : at + 2]
    command = "python3 benches/compare.py " + shlex.join(words)
    return "\n".join([
        f"- machine: {report.machine()}",
        f"- commit {report.output('git', '-C', ROOT, 'rev-parse', '--short=10', 'HEAD')}, "
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, load average: {os.getloadavg()[0]:.2f}",
        f"- {report.output('rustc', '--version')}; {report.output('redis-server', '--version').split(' bits')[0]}",
        f"- command: `{command.strip()}`",
    ])


def three(options):
    """The three servers, fresh."""
    folder = lambda name: os.path.join(SCRATCH, name)
    return [
        servers.larder(options.binary, options.port, folder("larder"), *options.larder),
        servers.redis_aof(options.port + 1, folder("redis-aof")),
        servers.redis_memory(options.port + 2, folder("redis-memory")),
    ]


# --- filling


def fill_strings(client, keys, size):
    value = b"x" * size
    client.pipeline(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n" % (key, size, value) for key in range(keys))


def fill_ten_fields(client, keys):
    fields = [word for field in range(FIELDS) for word in (f"field:{field}", "v" * 10)]
    client.pipeline(encode("HSET", b"ten:%012d" % key, *fields) for key in range(keys))


def fill_big_hash(client, fields):
    numbers = iter(range(fields))
    for _ in range(0, fields, 1000):
        words = [word for field in (next(numbers) for _ in range(1000)) for word in (f"field:{field}", "value")]
        client("HSET", "big", *words)


# --- speed


def run_load(server, name, size, pipeline, requests, keys):
    """One run of redis-benchmark: requests/s, latencies in ms, server CPU in seconds per million requests."""
    words, _, _, _ = LOADS[name]
    words = [word.format(value="x" * size) for word in words.split()]
    command = ["redis-benchmark", "-p", server.port, "-c", 50, "-P", pipeline, "-n", requests, "-r", keys, "-d", size]
    command = [str(word) for word in command] + ["--precision", "3"] + words
    before, saves = server.cpu_seconds(), checkpoints(server)
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    server.settle()
    cpu = server.cpu_seconds() - before
    rate = re.search(r"throughput summary: ([\d.]+)", run.stdout)
    if rate is None or "rror" in run.stderr:
        raise RuntimeError(f"{shlex.join(command)}: {run.stdout[-500:]} {run.stderr[-500:]}")
    steps = [(float(at), float(ms)) for at, ms in re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds \(cum", run.stdout)]
    latency = lambda percentile: next(ms for at, ms in steps if at >= percentile)
    return {
        "rate": float(rate[1]),
        "p50": latency(50),
        "p99": latency(99),
        "p99.9": latency(99.9),
        "cpu": cpu / requests * 1e6,
        "checkpoints": checkpoints(server) - saves,
    }


def checkpoints(server):
    """How many checkpoints of partitions, or rewrites of the append-only file, the server counts."""
    client = server.client()
    found = re.search(rb"aof_rewrites:(\d+)", client("INFO", "persistence"))
    client.close()
    return int(found[1])


def load_list(options):
    for size in options.sizes:
        for name in options.loads:
            for pipeline in options.pipelines:
                if LOADS[name][3] or size == options.sizes[0]:
                    yield name, size, pipeline


def speed(options):
    group = three(options)
    measured = {}
    try:
        for server in group:
            server.start()
            client = server.client()
            if "HGETALL" in options.loads:
                fill_ten_fields(client, options.keys // 10)
            client.close()
        filled = None
        for size in options.sizes:
            for round_number in range(options.rounds):
                for name, _, pipeline in (load for load in load_list(options) if load[1] == size):
                    if filled != size:
                        for server in group:
                            fill_strings(server.client(), options.keys, VALUES[size])
                            server.settle()
                        filled = size
                    expected = {1: 90_000, 16: 900_000}.get(pipeline, 300_000) * LOADS[name][1 if pipeline == 1 else 2]
                    requests = max(10_000, int(expected * options.seconds) // 10_000 * 10_000)
                    keys = options.keys // 10 if name == "HGETALL" else options.keys
                    for turn in range(3):
                        server = group[(turn + round_number) % 3]
                        one = run_load(server, name, VALUES[size], pipeline, requests, keys)
                        measured.setdefault((name, size, pipeline), {}).setdefault(server.name, []).append(one)
                        print(f"{name} {size} P{pipeline} {server.name}: {one}", file=sys.stderr, flush=True)
    finally:
        for server in group:
            server.stop()
    return speed_tables(options, group, measured), [[list(key), value] for key, value in measured.items()]


def median(runs, field):
    return statistics.median(run[field] for run in runs)


def speed_tables(options, group, measured):
    larder, aof, memory = [server.name for server in group]
    rates, latencies = [], []
    for (name, size, pipeline), runs in measured.items():
        label = f"{name}, {size}" if LOADS[name][3] else name
        row, ours = [label, pipeline], runs[larder]
        row += [report.thousands(median(runs[server], "rate")) for server in (larder, aof, memory)]
        row += [f"{median(ours, 'rate') / median(runs[server], 'rate'):.2f}" for server in (aof, memory)]
        row += [f"{median(runs[server], 'cpu'):.2f}" for server in (larder, aof, memory)]
        row += [f"{median(ours, 'cpu') / max(median(runs[server], 'cpu'), 1e-9):.2f}" for server in (aof, memory)]
        rates.append(row)
        cell = lambda server: " / ".join(f"{median(runs[server], field):.2f}" for field in ("p50", "p99", "p99.9"))
        latencies.append([label, pipeline] + [cell(server) for server in (larder, aof, memory)])
    head = ["load", "pipeline", "Larder", "aof", "none", "× aof", "× none"]
    head += ["Larder CPU", "aof CPU", "none CPU", "CPU × aof", "CPU × none"]
    rounds = f"Medians of {options.rounds} interleaved rounds, {options.keys:,} keys, 50 connections"
    return "\n".join([
        f"### Requests a second and server CPU\n\n{rounds}. *aof*: redis-server with `appendonly yes`, `appendfsync everysec`; "
        "*none*: redis-server that keeps nothing. Rates in requests/s; CPU in seconds per million requests; × is Larder's "
        "figure over theirs (a rate above 1 and CPU below 1 are in Larder's favour).\n",
        report.table(head, rates),
        "\n### Latency\n\np50 / p99 / p99.9 in milliseconds, as redis-benchmark sees them with 50 connections at full load.\n",
        report.table(["load", "pipeline", "Larder", "aof", "none"], latencies),
    ])


# --- sustained


def sustained(options):
    rows, results = [], []
    for pipeline, seconds in zip([1, 16], options.sustained):
        for name in (["SET"] if pipeline == 1 else [name for name in ("SET", "INCR", "HSET") if name in options.loads]):
            if pipeline not in options.pipelines:
                continue
            cells = {}
            for server in three(options)[:2]:
                server.start()
                fill_strings(server.client(), options.keys, 100)
                server.settle()
                requests = int({1: 90_000, 16: 900_000}[pipeline] * seconds)
                cells[server.name] = run_load(server, name, 100, pipeline, requests, options.keys)
                print(f"{name} P{pipeline} {server.name}: {cells[server.name]}", file=sys.stderr, flush=True)
                server.stop()
            ours, aof = cells.values()
            results.append([name, pipeline, requests, cells])
            row = [name, pipeline, f"{requests / 1e6:.1f}M", f"{ours['checkpoints']} / {aof['checkpoints']}"]
            row += [report.thousands(ours["rate"]), report.thousands(aof["rate"]), f"{ours['rate'] / aof['rate']:.2f}"]
            row += [f"{ours['cpu']:.2f}", f"{aof['cpu']:.2f}", f"{ours['cpu'] / aof['cpu']:.2f}", f"{ours['p99.9']:.2f}"]
            rows.append(row)
    head = ["load", "pipeline", "requests", "checkpoints / rewrites", "Larder", "aof", "×", "Larder CPU", "aof CPU", "CPU ×"]
    text = (
        "### Long runs\n\nOne run each, 100 B values, long enough that checkpoints (counted for each partition) and rewrites of the "
        "append-only file are in it.\n\n"
    )
    return text + report.table(head + ["Larder p99.9, ms"], rows), results


# --- restart


def restart(options):
    last = b"key:%012d" % (options.keys - 1)
    cases = {"after a checkpoint and a stop": [], "after kill -9, checkpointed": [], "after kill -9, nothing checkpointed": []}
    measured = {}
    for build in range(2):
        server = three(options)[build]
        found = {case: [] for case in cases}
        for _ in range(options.rounds):
            server = three(options)[build]
            server.start()
            fill_strings(server.client(), options.keys, 100)
            server.kill()
            found["after kill -9, nothing checkpointed"].append(server.start(last, b"x" * 100))
            server.checkpoint()
            server.stop()
            found["after a checkpoint and a stop"].append(server.start(last, b"x" * 100))
            server.kill()
            found["after kill -9, checkpointed"].append(server.start(last, b"x" * 100))
            server.stop()
        measured[server.name] = found
    rows = [
        [case] + [f"{report.milliseconds(statistics.median(found[case]))} (worst {report.milliseconds(max(found[case]))})"
                  for found in measured.values()]
        for case in cases
    ]
    text = (
        f"### From start to serving\n\n{options.keys:,} keys of 100 B; from starting the process to the right answer to a GET of "
        f"the last key written. Median of {options.rounds}.\n\n"
    )
    return text + report.table(["started", "Larder", "redis, aof"], rows), measured


# --- big values


def timed(client, *words):
    begin = time.perf_counter()
    client(*words)
    return time.perf_counter() - begin


def big(options):
    measured = {}
    offsets = random.Random(1)
    for server in three(options)[:2]:
        server.start()
        client, found = server.client(), {}
        for round_number in range(max(options.rounds, 3)):
            fill_big_hash(client, 1_000_000)
            if round_number == 1 and server.name == "larder":
                server.checkpoint()  # Once with the fields in the tree, otherwise with most of them in memory.
            found.setdefault("DEL of a hash with 1M fields", []).append(timed(client, "DEL", "big"))
            server.settle()
        found["GET of nothing, for scale"] = [timed(client, "GET", "nothing") for _ in range(1000)]
        for name, length in (("100 B", 100), ("100 MB", 100_000_000)):
            client("SETRANGE", name, length - 1, "x")
            server.settle()
            found[f"SETBIT in a string of {name}"] = [
                timed(client, "SETBIT", name, offsets.randrange(length * 8), 1) for _ in range(2000)
            ]
        measured[server.name] = found
        client.close()
        server.stop()
    p99 = lambda times: sorted(times)[int(len(times) * 0.99)]
    rows = [
        [case] + [f"{report.milliseconds(statistics.median(found[case]))} / {report.milliseconds(p99(found[case]))}"
                  for found in measured.values()]
        for case in next(iter(measured.values()))
    ]
    text = "### Size should not matter\n\nRound trips from a Python client, one at a time: median / p99 (of the few DELs: the worst).\n\n"
    return text + report.table(["command", "Larder", "redis, aof"], rows), {}


# --- memory


def memory(options):
    rows, measured = [], {}
    for server in three(options):
        server.start()
        empty = server.memory()
        fill_strings(server.client(), options.keys, 100)
        server.settle()
        loaded = server.memory()
        disk = server.disk_bytes()
        if server.name != "redis, nothing kept":
            server.checkpoint()
        after, disk_after = server.memory(), server.disk_bytes()
        cell = lambda pages: f"{report.megabytes(pages[0])} + {report.megabytes(pages[1])}"
        rows.append([server.name, cell(empty), cell(loaded), cell(after), report.megabytes(disk), report.megabytes(disk_after)])
        measured[server.name] = [empty, loaded, after, disk, disk_after]
        server.stop()
    head = ["server", "empty", "loaded", "after checkpoint or rewrite", "disk, loaded", "disk, after"]
    text = (
        f"### Memory and disk\n\n{options.keys:,} keys of 100 B. Resident memory as own pages + pages of mapped files (those the "
        "kernel takes back when it wants them).\n\n"
    )
    return text + report.table(head, rows), measured


# --- instructions


def instructions(options):
    """Instructions per request under callgrind: from a dump after the load, counters set to zero before it."""
    rows, measured = [], {}
    for name in ("SET", "GET", "INCR", "HSET"):
        cells = []
        for server in three(options)[:2]:
            if server.name == "larder":
                server.command += ["--runtime-threads", "1"]
            cells.append(count_instructions(server, name, 20_000))
        measured[name] = cells
        rows.append([name] + [f"{count:,.0f}" for count in cells] + [f"{cells[0] / cells[1]:.2f}"])
        print(f"{name}: {cells}", file=sys.stderr, flush=True)
    text = "### Instructions per request\n\nUnder callgrind, 20,000 requests, pipeline 16, 10 connections, 10,000 keys, 100 B.\n\n"
    return text + report.table(["load", "Larder", "redis, aof", "×"], rows), measured


def count_instructions(server, name, requests):
    out = os.path.join(server.folder, "callgrind.out")
    server.start(prefix=["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--quiet"])
    load = [word.format(value="x" * 100) for word in LOADS[name][0].split()]
    command = ["redis-benchmark", "-p", server.port, "-c", 10, "-P", 16, "-r", 10_000, "-d", 100, "-q"]
    run = lambda count: subprocess.run([str(word) for word in [*command, "-n", count, *load]], check=True, capture_output=True)
    if name == "GET":
        fill_strings(server.client(), 10_000, 100)
    run(20_000)  # Warm: tables have their size, code is loaded.
    pid = str(server.process.pid)
    subprocess.run(["callgrind_control", "-z", pid], check=True, capture_output=True)
    run(requests)
    subprocess.run(["callgrind_control", "-d", pid], check=True, capture_output=True)
    server.stop()
    totals = re.search(r"^(?:totals|summary): (\d+)", open(out + ".1").read(), re.M)
    return int(totals[1]) / requests


if __name__ == "__main__":
    main()
