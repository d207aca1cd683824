"""Uses redis-py as an application does: python redis_py.py PORT. Ends with an exception at the first wrong answer."""

import sys
import time

import redis


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def strings(r):
    equal(r.set("greeting", "hello"), True)
    equal(r.get("greeting"), "hello")
    equal(r.set("greeting", "again", nx=True), None)
    equal(r.set("greeting", "again", get=True), "hello")
    equal(r.append("greeting", "!"), 6)
    equal(r.getrange("greeting", 0, 4), "again")
    equal(r.setrange("greeting", 1, "GAI"), 6)
    equal(r.get("greeting"), "aGAIn!")
    equal(r.mset({"a": 1, "b": 2}), True)
    equal(r.mget("a", "b", "nothing"), ["1", "2", None])
    equal(r.incr("a"), 2)
    equal(r.incrbyfloat("a", 0.5), 2.5)
    equal(r.decr("b", 10), -8)
    equal(r.setbit("bits", 7, 1), 0)
    equal(r.bitcount("bits"), 1)
    equal(r.getdel("b"), "-8")
    equal(r.exists("a", "b", "bits"), 2)


def hashes(r):
    equal(r.hset("user", mapping={"name": "Ada", "born": 1815}), 2)
    equal(r.hgetall("user"), {"name": "Ada", "born": "1815"})
    equal(r.hincrby("user", "born", 1), 1816)
    equal(r.hincrbyfloat("user", "height", 1.5), 1.5)
    equal(r.hmget("user", ["name", "nothing"]), ["Ada", None])
    equal(sorted(r.hkeys("user")), ["born", "height", "name"])
    equal(r.hdel("user", "born", "height"), 2)
    equal(r.hlen("user"), 1)
    r.hset("large", mapping={f"field:{n}": n for n in range(2000)})
    equal(len(dict(r.hscan_iter("large"))), 2000)
    equal(r.object("encoding", "large"), "hashtable")


def expiry(r):
    equal(r.set("short", "x", px=60), True)
    equal(r.setex("long", 100, "x"), True)
    assert 90 < r.ttl("long") <= 100
    assert 90_000 < r.pttl("long") <= 100_000
    equal(r.persist("long"), True)
    equal(r.ttl("long"), -1)
    equal(r.expire("long", 50, gt=True), False)
    equal(r.ttl("nothing"), -2)
    at = int(time.time()) + 1000
    equal(r.expireat("long", at), True)
    equal(r.expiretime("long"), at)
    end = time.monotonic() + 10
    while r.get("short") is not None:
        assert time.monotonic() < end, "it did not expire"
        time.sleep(0.01)


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"p:{n}", n)
        equal(pipe.execute(), [True] * 1000)
    with r.pipeline() as pipe:
        pipe.incr("counter")
        pipe.hset("user", "counter", 1)
        pipe.get("counter")
        equal(pipe.execute(), [1, 1, "1"])
    with r.pipeline() as pipe:
        pipe.set("text", "no number")
        pipe.incr("text")
        pipe.set("after", "1")
        try:
            pipe.execute()
            raise AssertionError("an error was expected")
        except redis.ResponseError as error:
            assert "not an integer" in str(error), error
    equal(r.get("after"), "1")


def transactions(r, other):
    r.set("balance", 100)
    with r.pipeline() as pipe:
        pipe.watch("balance")
        other.set("balance", 50)
        pipe.multi()
        pipe.set("balance", 0)
        try:
            pipe.execute()
            raise AssertionError("the watched key changed")
        except redis.WatchError:
            pass
    equal(r.get("balance"), "50")

    def spend(pipe):
        balance = int(pipe.get("balance"))
        pipe.multi()
        pipe.set("balance", balance - 20)

    equal(r.transaction(spend, "balance"), [True])
    equal(r.get("balance"), "30")


def keys(r):
    r.flushdb()
    for n in range(3000):
        r.set(f"scan:{n}", n)
    equal(len(set(r.scan_iter("scan:*", count=100))), 3000)
    equal(len(set(r.scan_iter("scan:1*", count=1000))), 1111)
    equal(len(r.keys("scan:299*")), 11)
    equal(r.dbsize(), 3000)
    equal(r.rename("scan:1", "renamed"), True)
    equal(r.type("renamed"), "string")
    equal(r.copy("renamed", "copied"), True)
    payload = r.connection_pool.connection_kwargs and redis.Redis(port=r.port, decode_responses=False).dump("renamed")
    redis.Redis(port=r.port, decode_responses=False).restore("restored", 0, payload)
    equal(r.get("restored"), "1")
    equal(r.delete("renamed", "copied", "restored", "nothing"), 3)
    equal(r.unlink(*(f"scan:{n}" for n in range(2, 1000))), 998)


def server(r):
    equal(r.ping(), True)
    equal(r.echo("echo"), "echo")
    info = r.info()
    equal(info["redis_version"], "7.2.4")
    equal(info["db0"]["keys"], r.dbsize())
    equal(r.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
    equal(r.config_set("slowlog-max-len", 200), True)
    equal(r.client_setname("tester"), True)
    equal(r.client_getname(), "tester")
    assert any(client["name"] == "tester" for client in r.client_list())
    assert r.command_count() > 100
    assert r.memory_usage("scan:2000") > 0
    equal(r.flushall(), True)
    equal(r.dbsize(), 0)


def main():
    port = int(sys.argv[1])
    for protocol in (2, 3):
        connect = lambda: redis.Redis(port=port, protocol=protocol, decode_responses=True)
        r = connect()
        r.port = port
        r.flushall()
        strings(r)
        hashes(r)
        expiry(r)
        pipelines(r)
        transactions(r, connect())
        keys(r)
        server(r)
        print(f"RESP{protocol}: ok")


main()
