#!/usr/bin/env python3
"""Types of data beside redis-server on this machine: python3 benches/data_types.py [--quick] [--parts speed,growth,memory] [--dry]

Builds the release binary, runs Larder and redis-server with an append-only file (everysec), and writes the tables into
docs/benchmarks.md. Needs redis-server and redis-benchmark.

- speed: requests/s and server CPU for one load a command; both servers are up with the same data, and take turns for every
  single load. Figures are medians of the rounds.
- growth: how long a command takes on a million elements, against a thousand.
- memory: own pages and bytes on disk for a million small collections of each type.

A load whose command a server does not have is left out, and said.
"""

import argparse
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import time

import compare
import report
import servers
from servers import encode

ROOT, PAGE = compare.ROOT, compare.PAGE
SCRATCH = os.path.join(ROOT, "target", "bench-types")
PARTS = ["speed", "growth", "memory"]

# Name → redis-benchmark's words; what is there before (a key of FILLS); requests a second to expect, as a share of those of SET, at
# pipeline 1 and 16, which decides how many are sent. __rand_int__ is a number below --keys.
LOADS = {
    "LPUSH": ("LPUSH queue element:__rand_int__", None, 1.0, 1.0),
    "RPOP": ("RPOP queue", "queue", 1.0, 1.0),
    "LRANGE 100": ("LRANGE hundred 0 99", "hundred", 0.4, 0.08),
    "SADD": ("SADD members member:__rand_int__", None, 1.0, 0.7),
    "SPOP": ("SPOP members", "members", 1.0, 0.7),
    "ZADD": ("ZADD board __rand_int__ player:__rand_int__", None, 0.9, 0.3),
    "ZRANGE 10": ("ZRANGE board 0 9", "board", 0.9, 0.3),
    "ZRANK": ("ZRANK board player:__rand_int__", "board", 0.9, 0.4),
    "PFADD": ("PFADD sketch:1 element:__rand_int__", "sketch:1", 1.0, 1.0),
    "GEOADD": ("GEOADD places __rand_int__e-5 __rand_int__e-5 place:__rand_int__", None, 0.9, 0.3),
}
# What loads need before they begin: a command whose words come in groups, made from the group's number, and how many groups for `keys`.
# It is made anew before each load, so that pops always find something.
FILLS = {
    "queue": ("LPUSH", lambda at: [f"element:{at:012}"], lambda keys, requests: requests),
    "hundred": ("RPUSH", lambda at: [f"element:{at:012}"], lambda keys, requests: 100),
    "members": ("SADD", lambda at: [f"member:{at:012}"], lambda keys, requests: requests),
    "board": ("ZADD", lambda at: [at, f"player:{at:012}"], lambda keys, requests: keys),
    "sketch:1": ("PFADD", lambda at: [f"element:{at:012}"], lambda keys, requests: keys),
}
GROUPS_A_COMMAND = 500


def main():
    options = arguments()
    if options.binary is None:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
        options.binary = os.path.join(ROOT, "target", "release", "larder")
    os.makedirs(SCRATCH, exist_ok=True)
    results = {}
    for part in options.parts:
        print(f"== {part}", file=sys.stderr, flush=True)
        text, results[part] = globals()[part](options)
        print(text, flush=True)
        if not options.dry:
            report.write(PAGE, {f"types-{part}": f"{text}\n\n{about(options)}"})
    with open(os.path.join(SCRATCH, "results.json"), "w") as file:
        json.dump(results, file, indent=1)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: [word.strip() for word in text.split(";" if ";" in text else ",")]
    parser.add_argument("--parts", type=words, default=PARTS, help=",".join(PARTS))
    parser.add_argument("--loads", type=words, default=list(LOADS), help="; between names: " + "; ".join(LOADS))
    parser.add_argument("--pipelines", type=lambda text: [int(word) for word in words(text)], default=[1, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", type=int, default=1_000_000, help="how many different members, and small collections")
    parser.add_argument("--seconds", type=float, default=2, help="how long a load lasts, roughly")
    parser.add_argument("--port", type=int, default=7370, help="the first of two ports")
    parser.add_argument("--binary", help="measure this binary instead of building one")
    parser.add_argument("--quick", action="store_true", help="one short round of a tenth of the size")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/benchmarks.md alone")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.keys = 1, 1, 100_000
    return options


def about(options):
    commit = report.output("git", "-C", ROOT, "rev-parse", "--short=10", "HEAD")
    flags = [word for word in sys.argv[1:] if not os.path.exists(word) and word != "--binary"]
    return f"Commit {commit}, load average {os.getloadavg()[0]:.1f}: `{shlex.join(['python3', 'benches/data_types.py', *flags])}`."


def both(options):
    """Larder and redis-server, fresh."""
    folder = lambda name: os.path.join(SCRATCH, name)
    limit = ["--maxmemory", "4gb"]
    return [
        servers.larder(options.binary, options.port, folder("larder")),
        servers.redis_aof(options.port + 1, folder("redis-aof"), *limit),
    ]


def has(client, command):
    return bool(client("COMMAND", "INFO", command)[0])


def missing(client, commands):
    """Says which of these commands the server does not have yet."""
    absent = sorted({command for command in commands if not has(client, command)})
    return f"\n\nNot measured, because Larder does not have them yet: {', '.join(absent)}." if absent else ""


# --- speed


def fill(server, key, count):
    """Makes `key` anew, with `count` groups of words."""
    command, group, _ = FILLS[key]
    client = server.client()
    client("DEL", key)
    words, commands = [], []
    for at in range(count):
        words += group(at)
        if (at + 1) % GROUPS_A_COMMAND == 0 or at + 1 == count:
            commands.append(encode(command, key, *words))
            words = []
    client.pipeline(commands, 20)
    client.close()
    server.settle()


def run_load(server, name, pipeline, requests, keys):
    """One run of redis-benchmark: requests/s, and server CPU in seconds per million requests."""
    command = ["redis-benchmark", "-p", server.port, "-c", 50, "-P", pipeline, "-n", requests, "-r", keys, "--csv"]
    before = server.cpu_seconds()
    run = subprocess.run([str(word) for word in command] + LOADS[name][0].split(), capture_output=True, text=True, check=True)
    server.settle()
    rows = run.stdout.strip().splitlines()
    if "rror" in run.stderr or len(rows) < 2:
        raise RuntimeError(f"{name}: {run.stdout[-500:]} {run.stderr[-500:]}")
    rate = float(rows[-1].split('","')[1])
    return {"rate": rate, "cpu": (server.cpu_seconds() - before) / requests * 1e6}


def speed(options):
    group, measured = both(options), {}
    try:
        for server in group:
            server.start()
        client = group[0].client()
        note = missing(client, [LOADS[name][0].split()[0] for name in options.loads])
        loads = [name for name in options.loads if has(client, LOADS[name][0].split()[0])]
        client.close()
        for round_number in range(options.rounds):
            for name in loads:
                _, filled, *shares = LOADS[name]
                for pipeline in options.pipelines:
                    expected = {1: 80_000, 16: 500_000}.get(pipeline, 200_000) * shares[pipeline > 1]
                    requests = max(10_000, int(expected * options.seconds) // 10_000 * 10_000)
                    for turn in range(2):
                        server = group[(turn + round_number) % 2]
                        if filled:
                            fill(server, filled, FILLS[filled][2](options.keys, requests))
                        one = run_load(server, name, pipeline, requests, options.keys)
                        measured.setdefault((name, pipeline), {}).setdefault(server.name, []).append(one)
                        print(f"{name} P{pipeline} {server.name}: {one}", file=sys.stderr, flush=True)
    finally:
        for server in group:
            server.stop()
    median = lambda runs, field: statistics.median(run[field] for run in runs)
    rows = []
    for (name, pipeline), runs in measured.items():
        ours, theirs = runs[group[0].name], runs[group[1].name]
        rates = [median(ours, "rate"), median(theirs, "rate")]
        cpu = [median(ours, "cpu"), median(theirs, "cpu")]
        row = [name, pipeline, *map(report.thousands, rates), f"{rates[0] / rates[1]:.2f}"]
        rows.append(row + [f"{cpu[0]:.2f}", f"{cpu[1]:.2f}", f"{cpu[0] / max(cpu[1], 1e-9):.2f}"])
    head = ["load", "pipeline", "Larder", "redis, aof", "×", "Larder CPU", "aof CPU", "CPU ×"]
    text = (
        f"### Data types: requests a second and server CPU\n\nMedians of {options.rounds} rounds that take turns, 50 connections, "
        f"{options.keys:,} different members. Rates in requests/s, CPU in seconds per million requests.\n\n"
    )
    return text + report.table(head, rows) + note, [[list(key), value] for key, value in measured.items()]


# --- growth

SMALL, LARGE, BATCH = 1_000, 1_000_000, 50

# Name → the words, from a number below the size, and which collection they are about.
STEPS = {
    "LINDEX": ("list", lambda at, size: ["LINDEX", "list", at]),
    "LPUSH": ("list", lambda at, size: ["LPUSH", "list", f"new:{at}"]),
    "LPOP": ("list", lambda at, size: ["LPOP", "list"]),
    "ZRANK": ("zset", lambda at, size: ["ZRANK", "zset", f"member:{at:012}"]),
    "ZRANGE of 10 by index": ("zset", lambda at, size: ["ZRANGE", "zset", min(at, size - 10), min(at, size - 10) + 9]),
    "ZADD": ("zset", lambda at, size: ["ZADD", "zset", at * 7 % size, f"member:{at:012}"]),
    "SRANDMEMBER": ("set", lambda at, size: ["SRANDMEMBER", "set"]),
    "HRANDFIELD": ("hash", lambda at, size: ["HRANDFIELD", "hash"]),
}
COLLECTIONS = {
    "list": ("RPUSH", lambda at: [f"element:{at:012}"]),
    "zset": ("ZADD", lambda at: [at * 7919 % LARGE, f"member:{at:012}"]),
    "set": ("SADD", lambda at: [f"member:{at:012}"]),
    "hash": ("HSET", lambda at: [f"field:{at:012}", "value"]),
}


def make(client, name, size):
    command, group = COLLECTIONS[name]
    client("DEL", name)
    chunks = (range(begin, min(begin + 1000, size)) for begin in range(0, size, 1000))
    client.pipeline((encode(command, name, *(word for at in chunk for word in group(at))) for chunk in chunks), 10)


def times_of(client, words, size, count):
    """Seconds a command, of `count` that are sent fifty at a time, so that the round trip hides nothing."""
    numbers, took = random.Random(1), []
    commands = [encode(*words(numbers.randrange(size), size)) for _ in range(count)]
    for at in range(0, count, BATCH):
        batch = commands[at : at + BATCH]
        begin = time.perf_counter()
        client.send(b"".join(batch))
        for _ in batch:
            client.read()
        took.append((time.perf_counter() - begin) / len(batch))
    return took


def growth(options):
    count, measured = 2_000 if options.quick else 10_000, {}
    large = LARGE // 10 if options.quick else LARGE
    for server in both(options):
        server.start()
        client = server.client()
        pings = [statistics.median(times_of(client, lambda at, size: ["PING"], 1, count)) for _ in range(3)]
        if server.name == "larder":
            note = missing(client, [name.split()[0] for name in STEPS])
        for size in (SMALL, large):
            for name in COLLECTIONS:
                if has(client, COLLECTIONS[name][0]):
                    make(client, name, size)
            if server.name == "larder":
                server.checkpoint()
            for _ in range(options.rounds):
                for name, (_, words) in STEPS.items():
                    if has(client, name.split()[0]):
                        took = times_of(client, words, size, count)
                        measured.setdefault(name, {}).setdefault((server.name, size), []).append(statistics.median(took))
        client.close()
        server.stop()
    rows, micro = [], lambda seconds: f"{seconds * 1e6:,.1f} µs"
    for name, of in measured.items():
        row = [name]
        for server in ("larder", "redis, aof everysec"):
            few, many = (statistics.median(of.get((server, size), [0])) for size in (SMALL, large))
            row += [micro(few), micro(many), f"{many / few:.1f}"] if few else ["", "", ""]
        rows.append(row)
    head = ["command", f"Larder, {SMALL:,}", f"{large:,}", "×", f"redis, {SMALL:,}", f"{large:,}", "×"]
    text = (
        f"### Data types: size should not matter\n\nTime of a command from one client that sends {BATCH} at a time, with all that is in a "
        f"request besides (a PING: {micro(min(pings))}), medians. Larder's collections were checkpointed before.\n\n"
    )
    return text + report.table(head, rows) + note, {}


# --- memory

SMALLS = {
    "hashes": ("HSET", lambda at: [f"field:{field}" if word else f"value:{at % 1000}" for field in range(5) for word in (1, 0)]),
    "lists": ("RPUSH", lambda at: [f"element:{at % 1000}:{element}" for element in range(5)]),
    "sets": ("SADD", lambda at: [f"member:{at % 1000}:{member}" for member in range(5)]),
    "sets of numbers": ("SADD", lambda at: [at % 1000 * 10 + member for member in range(5)]),
    "sorted sets": ("ZADD", lambda at: [word for member in range(5) for word in (member * 1.5, f"member:{at % 1000}:{member}")]),
}


def memory(options):
    rows, measured, note = [], {}, ""
    for name, (command, words) in SMALLS.items():
        row = [name]
        for server in both(options):
            server.start()
            client = server.client()
            if not has(client, command):
                note += missing(client, [command])
                server.stop()
                break
            empty = server.memory()[0]
            client.pipeline(encode(command, f"key:{at:012}", *words(at)) for at in range(options.keys))
            client.close()
            server.checkpoint()
            own, disk = server.memory()[0] - empty, server.disk_bytes()
            measured[f"{name}, {server.name}"] = [own, disk]
            row += [own, disk]
            server.stop()
        if len(row) == 5:
            _, own, disk, own_theirs, disk_theirs = row
            cells = [report.megabytes(size) for size in row[1:]]
            rows.append([name, *cells, f"{own / own_theirs:.2f}", f"{disk / disk_theirs:.2f}"])
    head = ["collections", "Larder, memory", "disk", "redis, memory", "disk", "memory ×", "disk ×"]
    text = (
        f"### Data types: memory and disk\n\n{options.keys:,} collections of five short elements each; own pages beyond those of an "
        "empty server, and bytes on disk, after a checkpoint (a rewrite of the append-only file).\n\n"
    )
    return text + report.table(head, rows) + note, measured


if __name__ == "__main__":
    main()
