"""The servers under measurement: how each is started, asked, measured and stopped. Standard library only."""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Client:
    """A connection that sends commands as they come and reads replies without looking into nested ones' types."""

    def __init__(self, port, timeout=600):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", 1 << 16)

    def __call__(self, *words):
        self.send(encode(*words))
        return self.read()

    def send(self, data):
        self.socket.sendall(data)

    def read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        return rest

    def pipeline(self, commands, batch=500):
        """Sends encoded commands in batches; returns the last reply."""
        reply, waiting = None, []
        for command in commands:
            waiting.append(command)
            if len(waiting) == batch:
                reply, waiting = self._batch(waiting), []
        return self._batch(waiting) if waiting else reply

    def _batch(self, commands):
        self.send(b"".join(commands))
        for _ in commands:
            reply = self.read()
        return reply

    def close(self):
        self.file.close()
        self.socket.close()


def encode(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Server:
    """One server process with a data folder of its own."""

    def __init__(self, name, port, folder, command):
        self.name, self.port, self.folder, self.command = name, port, folder, command
        self.process = None
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)

    def start(self, key=None, value=None, prefix=()):
        """Starts it and returns the seconds until it serves: until PING, or GET of `key`, is answered rightly."""
        words = ["GET", key] if key else ["PING"]
        expected = value if key else b"PONG"
        log = open(os.path.join(self.folder, "log"), "ab")
        begin = time.perf_counter()
        self.process = subprocess.Popen([*prefix, *self.command], stdout=log, stderr=log)
        atexit.register(self.process.kill)  # Whatever happens, nothing is left running.
        log.close()
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at its start, see {self.folder}/log")
            if time.perf_counter() - begin > 120:
                raise RuntimeError(f"{self.name} does not answer")
            try:
                client = Client(self.port)
                if client(*words) == expected and self.process.poll() is None:
                    took = time.perf_counter() - begin
                    client.close()
                    return took
            except (OSError, RuntimeError):
                pass  # Not listening yet, or still loading.
            time.sleep(0.0005)

    def client(self):
        return Client(self.port)

    def stop(self):
        """Asks it to stop and waits."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self):
        """User and system time of the process, all its threads, and its children dead or alive."""
        return cpu_seconds(self.process.pid)

    def settle(self, quiet=0.25, at_most=30):
        """Waits until it does (nearly) nothing, so that work it put off is counted and disturbs nobody else."""
        end = time.monotonic() + at_most
        before = self.cpu_seconds()
        while time.monotonic() < end:
            time.sleep(quiet)
            now = self.cpu_seconds()
            if now - before <= 0.03 * quiet + 1 / TICKS:
                return
            before = now

    def memory(self):
        """Bytes of its own pages (heap, stacks) and of mapped files' pages that are resident."""
        own = resident = 0
        with open(f"/proc/{self.process.pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Rss:"):
                    resident = int(line.split()[1]) * 1024
                if line.startswith("Anonymous:"):
                    own = int(line.split()[1]) * 1024
        return own, resident - own

    def disk_bytes(self):
        total = 0
        for folder, _, files in os.walk(self.folder):
            for file in files:
                if file != "log":
                    total += os.stat(os.path.join(folder, file)).st_blocks * 512
        return total

    def checkpoint(self):
        """Has it write what it has to where a restart finds it, and waits for that."""
        client = self.client()
        busy = lambda: re.search(rb"aof_rewrite_(in_progress|scheduled):1", client("INFO", "persistence"))
        while busy():
            time.sleep(0.05)
        client("SAVE" if self.name == "larder" else "BGREWRITEAOF")
        while busy():
            time.sleep(0.05)
        client.close()
        self.settle()


def cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    ticks = sum(int(field) for field in fields[11:15])
    return ticks / TICKS + sum(cpu_seconds(child) for child in children(pid))


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass
    return found


def larder(binary, port, folder, *flags):
    data = os.path.join(folder, "data")
    return Server("larder", port, folder, [binary, "--port", str(port), "--dir", data, *flags])


def redis_aof(port, folder, *flags):
    command = ["redis-server", "--port", str(port), "--dir", folder, "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "everysec", *flags]
    return Server("redis, aof everysec", port, folder, command)


def redis_memory(port, folder, *flags):
    command = ["redis-server", "--port", str(port), "--dir", folder, "--save", "", "--appendonly", "no", *flags]
    return Server("redis, nothing kept", port, folder, command)
