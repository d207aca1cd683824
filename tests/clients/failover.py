"""Writes and reads with redis-py's clients, as libraries come, and says what became of each write: python failover.py CLIENT…

A client is NAME=KIND@HOST:PORT,HOST:PORT,… with kind `plain` (the first address is its server), `sentinel` or `cluster`. Each writes a key
of its own after the other and reads it again, until standard input ends. A line of output for each, with moments of the monotonic clock in
microseconds: NAME, called, returned, then `ok KEY`, `wrong KEY`, or `error TEXT`.
"""

import sys
import threading
import time

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

# An application's pause between two writes, and the one after an error.
GAP_S = 0.005
AGAIN_S = 0.02

ending = threading.Event()
printing = threading.Lock()


def plain(nodes):
    return redis.Redis(*nodes[0])


def sentinel(nodes):
    return Sentinel(nodes).master_for("mymaster")


def cluster(nodes):
    return RedisCluster(startup_nodes=[ClusterNode(*node) for node in nodes])


def now_us():
    return time.monotonic_ns() // 1000


def say(*words):
    with printing:
        print(*words, flush=True)


def work(name, connect, nodes):
    client, number = None, 0
    while not ending.is_set():
        number += 1
        key, called = f"{name}:{number}", now_us()
        try:
            client = client or connect(nodes)
            client.set(key, number)
            returned = now_us()
        except Exception as error:  # whatever a library may throw is what an application sees
            say(name, called, now_us(), "error", type(error).__name__, " ".join(str(error).split()))
            time.sleep(AGAIN_S)
            continue
        try:
            outcome = "ok" if client.get(key) == str(number).encode() else "wrong"
            say(name, called, returned, outcome, key)
        except Exception as error:
            say(name, called, returned, "ok", key)
            say(name, returned, now_us(), "error", type(error).__name__, " ".join(str(error).split()))
        time.sleep(GAP_S)


def main():
    threads = []
    for text in sys.argv[1:]:
        name, _, rest = text.partition("=")
        kind, _, addresses = rest.partition("@")
        nodes = [(host, int(port)) for host, port in (address.split(":") for address in addresses.split(","))]
        connect = {"plain": plain, "sentinel": sentinel, "cluster": cluster}[kind]
        threads.append(threading.Thread(target=work, args=(name, connect, nodes), daemon=True))
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ending.set()
    for thread in threads:
        thread.join(30)


main()
