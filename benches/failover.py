#!/usr/bin/env python3
"""How long nobody can write when a primary dies, beside Redis Sentinel and Redis Cluster: benches/failover.py [--systems …] [--dry]

- kill: the primary gets `kill -9` while clients write; from the kill to the first write that is accepted again, and to the first of the last
  client; errors that clients saw; acknowledged writes that are missing afterwards.
- handover: the primary is replaced on purpose (SIGTERM here, SENTINEL FAILOVER and CLUSTER FAILOVER there): the longest time that a write took.
- calm: nothing happens: no primary may be replaced. Says which settings are too quick for this machine.

The clients are redis-py's, without its own retries, so that each error is seen: plain clients at the nodes that stay for Larder, its Sentinel
client, its Cluster client. Every round is kept in target/bench/failover-SYSTEM.jsonl, so that a run that was broken off is gone on with (--fresh
begins anew); the tables in docs/benchmarks.md are made of those. Needs redis-server, and redis-py in target/python (`bash tests/run` installs both).
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

import report
import servers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = os.path.join(ROOT, "target", "python", "bin", "python")
try:
    import redis
    import redis.sentinel
except ImportError:
    if os.path.realpath(sys.prefix) == os.path.realpath(os.path.join(ROOT, "target", "python")) or not os.path.exists(PYTHON):
        raise
    os.execv(PYTHON, [PYTHON, *sys.argv])
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

PAGE = os.path.join(ROOT, "docs", "benchmarks.md")
SCRATCH = os.path.join(ROOT, "target", "bench")
HOST = "127.0.0.1"
# redis-py 6 tries three times by itself and sleeps for seconds in between; what it hides is what is measured here.
ONCE = Retry(NoBackoff(), 0)
# How long a client that got an error waits before it tries again.
AGAIN_S = 0.02
# A writer's patience with one command: longer than any failover here.
PATIENCE_S = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=lambda text: text.split(","), default=["larder", "sentinel", "cluster"])
    parser.add_argument("--settings", help="only these, by name: default, quick, …")
    parser.add_argument("--events", type=lambda text: text.split(","), default=["kill", "handover"])
    parser.add_argument("--kills", type=int, default=50, help="kills and handovers, at the quick settings")
    parser.add_argument("--slow-kills", type=int, default=10, help="kills and handovers at defaults that take half a minute each")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--gap", type=float, default=0.01, help="seconds from one write of a writer to its next")
    parser.add_argument("--seconds", type=float, default=120, help="how long the calm lasts")
    parser.add_argument("--port", type=int, default=7400, help="the first of thirty ports")
    parser.add_argument("--timeout-ms", type=int, help="another timeout for the quick settings, to find out how quick they may be")
    parser.add_argument("--binary", help="measure this binary instead of building one")
    parser.add_argument("--fresh", action="store_true", help="forget the rounds of earlier runs")
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    if options.binary is None and "larder" in options.systems:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
        options.binary = os.path.join(ROOT, "target", "release", "larder")
    os.makedirs(SCRATCH, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped
    for name in options.systems:
        kept = Kept(name, options.fresh)
        for system in SYSTEMS[name](options):
            if options.settings is None or system.setting in options.settings.split(","):
                measure(system, kept, options)
        section = "\n".join([f"### {SYSTEMS[name].title}\n", SYSTEMS[name].about + "\n", report.table(HEAD, kept.rows(options))])
        about = (
            f"{options.writers} clients, a write every {options.gap * 1e3:g} ms each. Commit {report.output('git', '-C', ROOT, 'rev-parse', '--short=10', 'HEAD')}; "
            f"load average {kept.load()}."
        )
        print(section + "\n\n" + about, flush=True)
        if not options.dry:
            report.write(PAGE, {f"failover-{name}": section + "\n\n" + about})


class Kept:
    """All rounds of a system that were ever measured, in the order of their settings and events."""

    def __init__(self, name, is_fresh):
        self.path = os.path.join(SCRATCH, f"failover-{name}.jsonl")
        self.rounds = []
        if is_fresh and os.path.exists(self.path):
            os.remove(self.path)
        if os.path.exists(self.path):
            self.rounds = [json.loads(line) for line in open(self.path)]

    def add(self, system, event, one):
        one = {"setting": f"{system.setting}: {system.says}", "event": event, "load": os.getloadavg()[0], **one}
        self.rounds.append(one)
        with open(self.path, "a") as file:
            file.write(json.dumps(one) + "\n")

    def count(self, system, event):
        return sum(one["setting"] == f"{system.setting}: {system.says}" and one["event"] == event for one in self.rounds)

    def rows(self, options):
        kinds = dict.fromkeys((one["setting"], one["event"]) for one in self.rounds)
        return [row(*kind, [one for one in self.rounds if (one["setting"], one["event"]) == kind], options) for kind in kinds]

    def load(self):
        loads = sorted(one["load"] for one in self.rounds if one["load"] is not None)
        return f"{loads[0]:.1f} to {loads[-1]:.1f}, median {statistics.median(loads):.1f}" if loads else "unknown"


# --- clients


class Writer(threading.Thread):
    """Writes a key of its own after the other, and notes what became of each."""

    def __init__(self, client, tag, number, gap):
        super().__init__(daemon=True)
        self.client, self.prefix, self.gap = client, f"{tag}:{number}", gap
        self.accepted, self.errors = [], []
        self.ending = threading.Event()

    def run(self):
        number, begun = 0, None
        while not self.ending.is_set():
            number += 1
            key = f"{self.prefix}:{number}"
            sent = time.perf_counter()
            begun = begun or sent
            try:
                self.client.set(key, number)
            except Exception as error:  # whatever a client library may throw, it is what an application would see
                self.errors.append((time.perf_counter(), f"{type(error).__name__}: {error}"))
                time.sleep(AGAIN_S)  # The next write has a key of its own: what became of this one is not known.
                continue
            done = time.perf_counter()
            self.accepted.append((begun, sent, done, key))
            begun = None
            time.sleep(max(0, self.gap - (done - sent)))

    def end(self):
        self.ending.set()
        self.join(PATIENCE_S)
        if self.is_alive():
            raise RuntimeError("a writer never came back")


def kill_once(system, options):
    """Kills the primary under load: seconds to the first accepted write, to the last client's first, errors, missing and accepted writes."""
    victim, tag = system.primary()
    promotions = system.promotions()
    writers = start_writers(system, tag, victim, options)
    killed = time.perf_counter()
    victim.kill()
    after = time.perf_counter()
    first = lambda writer: next((done for _, sent, done, _ in reversed_until(writer.accepted, after)), None)
    await_that(lambda: all(first(writer) for writer in writers), "a client writes again")
    time.sleep(0.5)
    for writer in writers:
        writer.end()
    firsts = [first(writer) - killed for writer in writers]
    system.bring_back(victim)
    system.settle()
    return {
        "first": min(firsts),
        "last": max(firsts),
        "alarms": max(0, system.promotions() - promotions - 1),
        **aftermath(system, writers, killed),
    }


def handover_once(system, options):
    """Replaces the primary on purpose: the longest write, errors, missing and accepted writes."""
    before, tag = system.primary()
    writers = start_writers(system, tag, before, options)
    begun = time.perf_counter()
    system.hand_over(before, tag)
    ended = time.perf_counter()
    await_that(lambda: all(writer.accepted and writer.accepted[-1][1] > ended for writer in writers), "a client writes again")
    time.sleep(0.5)
    for writer in writers:
        writer.end()
    longest = max(done - first for writer in writers for first, _, done, _ in writer.accepted if done > begun)
    system.settle()
    return {"first": longest, "last": longest, **aftermath(system, writers, begun)}


def start_writers(system, tag, victim, options):
    """Writers that write, somewhat out of step with everything else."""
    writers = [Writer(system.client(victim), f"{tag}{random.getrandbits(60):x}", number, options.gap) for number in range(options.writers)]
    for writer in writers:
        writer.start()
        time.sleep(options.gap / options.writers)
    await_that(lambda: all(len(writer.accepted) > 30 for writer in writers), "clients write")
    time.sleep(random.random() / 2)
    return writers


def reversed_until(accepted, after):
    """The accepted writes that were sent after this moment, oldest first."""
    found = []
    for one in reversed(accepted):
        if one[1] <= after:
            break
        found.append(one)
    return reversed(found)


def aftermath(system, writers, since):
    errors = [text for writer in writers for at, text in writer.errors if at >= since]
    keys = [key for writer in writers for *_, key in writer.accepted]
    missing = system.missing(keys)
    return {"errors": errors, "accepted": len(keys), "missing": missing, "hit": sum(any(at >= since for at, _ in writer.errors) for writer in writers)}


def await_that(condition, what, at_most=600):
    end = time.monotonic() + at_most
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"not in time: {what}")
        time.sleep(0.002)


# --- measuring

HEAD = ["settings", "event", "times", "first write again: p50", "p99", "worst", "last client: p50", "worst", "errors (median a client)", "acknowledged and missing", "primaries replaced for nothing"]


def measure(system, kept, options):
    system.start()
    try:
        if "calm" in options.events:
            calm(system, options)
        count = options.slow_kills if system.is_slow else options.kills
        for event, once in [("kill", kill_once), ("handover", handover_once)]:
            while event in options.events and kept.count(system, event) < count:
                one = once(system, options)
                one["alarms"] = one.get("alarms", 0)
                kept.add(system, event, {**one, "errors": len(one["errors"])})
                print(
                    f"{system.name} {system.setting} {event} {kept.count(system, event)}/{count}: first {one['first']:.3f} s, last {one['last']:.3f} s, "
                    f"{len(one['errors'])} errors, {one['missing']} of {one['accepted']} missing, {one['alarms']} promotions too many; "
                    f"{sorted(set(text[:70] for text in one['errors']))[:3]}",
                    flush=True,
                )
    finally:
        system.stop()


def row(setting, event, rounds, options):
    column = lambda key: sorted(one[key] for one in rounds)
    first, last = column("first"), column("last")
    missing, accepted = sum(column("missing")), sum(column("accepted"))
    errors = statistics.median(one["errors"] / options.writers for one in rounds)
    lossy = sum(one["missing"] > 0 for one in rounds)
    return [
        setting,
        event,
        len(rounds),
        seconds(statistics.median(first)),
        seconds(percentile(first, 0.99)),
        seconds(first[-1]),
        seconds(statistics.median(last)),
        seconds(last[-1]),
        f"{errors:.1f}",
        f"{missing} of {accepted:,}" + (f" (in {lossy})" if missing else ""),
        sum(column("alarms")),
    ]


def seconds(value):
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def calm(system, options):
    """Writes for a while, and counts primaries that were replaced without a reason."""
    victim, tag = system.primary()
    writers = start_writers(system, tag, victim, options)
    before = system.promotions()
    time.sleep(options.seconds)
    for writer in writers:
        writer.end()
    alarms = system.promotions() - before
    errors = sum(len(writer.errors) for writer in writers)
    longest = max(done - first for writer in writers for first, _, done, _ in writer.accepted)
    print(f"{system.name} {system.setting} ({system.says}), {options.seconds:g} s of calm: {alarms} promotions, {errors} errors, longest write {longest:.3f} s", flush=True)


# --- systems


class Node(servers.Server):
    """A server that is started again where it was."""

    def start_again(self, *more):
        """On its folder; with `more` behind its flags."""
        log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen([*self.command, *more], stdout=log, stderr=log)
        log.close()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def info(self, section, field):
        """A field of INFO; None if nobody answers."""
        try:
            client = servers.Client(self.port, timeout=2)
            found = re.search(rb"^%s:(.*?)\r?$" % field.encode(), client("INFO", section), re.M)
            client.close()
            return found and found[1].decode()
        except (OSError, RuntimeError):
            return None

    def is_in_step(self):
        return self.info("replication", "role") == "slave" and self.info("replication", "master_link_status") == "up"


def redis_node(port, folder, *flags):
    shell = 'ulimit -d 8000000; exec redis-server "$@"'
    command = ["bash", "-c", shell, "redis-server", "--port", str(port), "--dir", folder, "--save", "", "--appendonly", "yes", "--maxmemory", "1gb"]
    return Node("redis-server", port, folder, [*command, "--repl-diskless-sync-delay", "0", *flags])


def logged(node, words):
    with open(os.path.join(node.folder, "log")) as log:
        return log.read().count(words)


def missing_of(client, keys):
    """How many of these keys a client does not find."""
    missing = 0
    for at in range(0, len(keys), 500):
        missing += client.mget(keys[at : at + 500]).count(None)
    return missing


class Larder:
    """Three nodes; clients at one that stays."""

    name = "Larder"

    def __init__(self, setting, says, options, *flags):
        self.setting, self.says, self.is_slow = setting, says, False
        ports = [options.port + 20 + number for number in range(3)]
        common = ["--cluster-seeds", *(f"{HOST}:{port + 10000}" for port in ports), "--bootstrap-expect", "3", "--cluster-secret", "benchmark", "--replicas", "2", *flags]
        folder = lambda port: os.path.join(SCRATCH, f"failover-larder-{setting}-{port}")
        self.nodes = [Node("larder", port, folder(port), [options.binary, "--port", str(port), "--dir", os.path.join(folder(port), "data"), *common]) for port in ports]

    def start(self):
        for node in self.nodes:
            node.start_again()
        self.settle()

    def stop(self):
        for node in self.nodes:
            node.stop()

    def bring_back(self, node):
        node.start_again()

    def primary(self):
        return next(node for node in self.nodes if node.info("replication", "role") == "master"), ""

    def client(self, victim):
        survivors = [node for node in self.nodes if node is not victim]
        return redis.Redis(HOST, random.choice(survivors).port, retry=ONCE, socket_timeout=PATIENCE_S)

    def hand_over(self, before, tag):
        before.process.send_signal(signal.SIGTERM)
        before.process.wait(60)
        before.start_again()

    def is_settled(self):
        roles = [node.info("replication", "role") for node in self.nodes]
        followers = [node for node, role in zip(self.nodes, roles) if role == "slave"]
        return roles.count("master") == 1 and len(followers) == 2 and all(node.is_in_step() for node in followers) and self.primary()[0].info("replication", "connected_slaves") == "2"

    def settle(self):
        await_that(self.is_settled, "a primary with two replicas in step")

    def promotions(self):
        return int(self.nodes[0].info("replication", "failovers") or 0)

    def missing(self, keys):
        return missing_of(redis.Redis(HOST, self.nodes[0].port, retry=ONCE), keys)


class Sentinel:
    """A primary, two replicas, three sentinels with a quorum of two; redis-py's Sentinel client."""

    name = "Redis Sentinel"

    def __init__(self, setting, says, options, down_after_ms, is_slow):
        self.setting, self.says, self.is_slow, self.down_after_ms = setting, says, is_slow, down_after_ms
        folder = lambda port: os.path.join(SCRATCH, f"failover-sentinel-{setting.replace(' ', '-')}-{port}")
        self.ports = [options.port + number for number in range(3)]
        self.sentinel_ports = [options.port + 3 + number for number in range(3)]
        self.nodes = [redis_node(port, folder(port)) for port in self.ports]
        self.sentinels = [Node("sentinel", port, folder(port), ["redis-server", os.path.join(folder(port), "sentinel.conf"), "--sentinel"]) for port in self.sentinel_ports]

    def start(self):
        for node in self.nodes:
            node.start_again(*([] if node is self.nodes[0] else ["--replicaof", HOST, str(self.ports[0])]))
        for sentinel in self.sentinels:
            with open(os.path.join(sentinel.folder, "sentinel.conf"), "w") as file:
                file.write(f"port {sentinel.port}\ndir {sentinel.folder}\nsentinel monitor main {HOST} {self.ports[0]} 2\n")
                if self.down_after_ms:
                    # Votes that were split are repeated after twice the second of these: six minutes by default.
                    file.write(f"sentinel down-after-milliseconds main {self.down_after_ms}\nsentinel failover-timeout main 3000\n")
            sentinel.start_again()
        self.settle()

    def stop(self):
        for node in [*self.sentinels, *self.nodes]:
            node.stop()

    def bring_back(self, node):
        """As a replica at once: without that the sentinels take ten seconds to tell it."""
        await_that(lambda: all(int(self.state(sentinel)[b"port"]) != node.port for sentinel in self.sentinels), "sentinels have another primary")
        node.start_again("--replicaof", HOST, str(self.address()))

    def finder(self):
        return redis.sentinel.Sentinel([(HOST, port) for port in self.sentinel_ports], sentinel_kwargs={"retry": ONCE, "socket_timeout": 5})

    def address(self):
        """The primary's port, as a sentinel has it."""
        client = self.sentinels[0].client()
        port = int(client("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])
        client.close()
        return port

    def primary(self):
        port = self.address()
        return next(node for node in self.nodes if node.port == port), ""

    def client(self, victim):
        return self.finder().master_for("main", retry=ONCE, socket_timeout=PATIENCE_S)

    def hand_over(self, before, tag):
        client = self.sentinels[0].client()
        client("SENTINEL", "FAILOVER", "main")
        client.close()
        # Until then clients that were connected go on writing to it.
        await_that(lambda: before.info("replication", "role") == "slave", "the old primary is told")

    def state(self, sentinel):
        client = sentinel.client()
        words = client("SENTINEL", "MASTER", "main")
        client.close()
        return dict(zip(words[::2], words[1::2]))

    def is_settled(self):
        try:
            port = self.address()
            states = [self.state(sentinel) for sentinel in self.sentinels]
        except (OSError, RuntimeError):
            return False
        agreed = all(
            state[b"flags"] == b"master" and int(state[b"port"]) == port and state[b"num-slaves"] == b"2" and state[b"num-other-sentinels"] == b"2" for state in states
        )
        followers = [node for node in self.nodes if node.port != port]
        for node in followers:
            # After two failovers in a row the sentinels may leave a replica behind another one for minutes.
            if agreed and node.info("replication", "master_port") not in (str(port), None):
                client = node.client()
                client("REPLICAOF", HOST, port)
                client.close()
        # A replica that the sentinels think down does not count for them.
        return agreed and all(node.is_in_step() and node.info("replication", "master_port") == str(port) for node in followers) and not self.down_replicas()

    def down_replicas(self):
        found = 0
        for sentinel in self.sentinels:
            client = sentinel.client()
            for words in client("SENTINEL", "REPLICAS", "main"):
                found += dict(zip(words[::2], words[1::2]))[b"flags"] != b"slave"
            client.close()
        return found

    def settle(self):
        await_that(self.is_settled, "a primary with two replicas in step, and sentinels that agree")

    def promotions(self):
        return max(logged(sentinel, "+switch-master") for sentinel in self.sentinels)

    def missing(self, keys):
        return missing_of(redis.Redis(HOST, self.address(), retry=ONCE), keys)


class Cluster:
    """Three primaries with a replica each; redis-py's Cluster client. All writes go to the slots of the primary that is killed."""

    name = "Redis Cluster"
    # A tag for each third of the slots.
    tags = ["{b}", "{c}", "{a}"]

    def __init__(self, setting, says, options, node_timeout_ms, is_slow):
        self.setting, self.says, self.is_slow = setting, says, is_slow
        ports = [options.port + 10 + number for number in range(6)]
        flags = ["--cluster-enabled", "yes"] + (["--cluster-node-timeout", str(node_timeout_ms)] if node_timeout_ms else [])
        self.nodes = [redis_node(port, os.path.join(SCRATCH, f"failover-cluster-{setting}-{port}"), *flags) for port in ports]
        self.turn = 0

    def start(self):
        for node in self.nodes:
            node.start_again()
        await_that(lambda: all(node.info("server", "redis_version") for node in self.nodes), "the nodes answer")
        addresses = [f"{HOST}:{node.port}" for node in self.nodes]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.settle()

    def stop(self):
        for node in self.nodes:
            node.stop()

    def bring_back(self, node):
        node.start_again()

    def ask(self, node, *words):
        client = node.client()
        try:
            return client(*words)
        finally:
            client.close()

    def of_tag(self, tag):
        """The port of the primary that has this tag's slot."""
        slot = self.ask(self.nodes[0], "CLUSTER", "KEYSLOT", tag)
        return next(entry[2][1] for entry in self.ask(self.nodes[0], "CLUSTER", "SLOTS") if entry[0] <= slot <= entry[1])

    def primary(self):
        self.turn += 1
        tag = self.tags[self.turn % len(self.tags)]
        port = self.of_tag(tag)
        return next(node for node in self.nodes if node.port == port), tag

    def client(self, victim):
        others = [ClusterNode(HOST, node.port) for node in self.nodes if node is not victim]
        return RedisCluster(startup_nodes=others, retry=ONCE, socket_timeout=PATIENCE_S)

    def hand_over(self, before, tag):
        identity = self.ask(before, "CLUSTER", "MYID").decode()
        replicas = self.ask(before, "CLUSTER", "REPLICAS", identity)
        port = int(re.search(rb":(\d+)@", replicas[0])[1])
        replica = next(node for node in self.nodes if node.port == port)
        roles_changed = lambda: replica.info("replication", "role") == "master" and before.info("replication", "role") == "slave"
        while not roles_changed():
            # It gives up after five seconds, and says so in its log only.
            self.ask(replica, "CLUSTER", "FAILOVER")
            until = time.monotonic() + 6
            while not roles_changed() and time.monotonic() < until:
                time.sleep(0.002)

    def is_settled(self):
        try:
            infos = [self.ask(node, "CLUSTER", "INFO") for node in self.nodes]
            views = [self.ask(node, "CLUSTER", "NODES") for node in self.nodes]
        except (OSError, RuntimeError):
            return False
        roles = [node.info("replication", "role") for node in self.nodes]
        return (
            all(b"cluster_state:ok" in info and b"cluster_known_nodes:6" in info for info in infos)
            and not any(b"fail" in view or b"handshake" in view or b"disconnected" in view for view in views)
            and all(len(re.findall(rb" (?:myself,)?master - ", view)) == 3 for view in views)
            and roles.count("slave") == 3
            and all(node.is_in_step() for node, role in zip(self.nodes, roles) if role == "slave")
            and all(node.info("replication", "connected_slaves") == "1" for node, role in zip(self.nodes, roles) if role == "master")
        )

    def settle(self):
        await_that(self.is_settled, "three primaries with a replica each")

    def promotions(self):
        return sum(logged(node, "Failover election won") for node in self.nodes)

    def missing(self, keys):
        tag = re.match(r"\{.*?\}", keys[0])[0]
        return missing_of(redis.Redis(HOST, self.of_tag(tag), retry=ONCE), keys)


def larder(options):
    yield Larder("default", "write-concern local", options, "--write-concern", "local")
    yield Larder("majority", "write-concern majority", options, "--write-concern", "majority")


def sentinel(options):
    quick = options.timeout_ms or 1500
    yield Sentinel("quick", f"down-after-milliseconds {quick}, failover-timeout 3000", options, quick, False)
    yield Sentinel("too quick", "down-after-milliseconds 500, failover-timeout 3000", options, 500, False)
    yield Sentinel("default", "down-after-milliseconds 30000, failover-timeout 180000", options, None, True)


def cluster(options):
    quick = options.timeout_ms or 100
    yield Cluster("quick", f"cluster-node-timeout {quick}", options, quick, False)
    yield Cluster("default", "cluster-node-timeout 15000", options, None, True)


SYSTEMS = {"larder": larder, "sentinel": sentinel, "cluster": cluster}
larder.title, larder.about = "Failover: Larder", "Three nodes, `--replicas 2`; plain clients at the two nodes that stay."
sentinel.title = "Failover: Redis Sentinel"
sentinel.about = "A primary, two replicas, three sentinels with a quorum of two; redis-py's Sentinel client."
cluster.title = "Failover: Redis Cluster"
cluster.about = "Three primaries with a replica each; redis-py's Cluster client; every write goes to the slots of the primary that is killed."

if __name__ == "__main__":
    main()
