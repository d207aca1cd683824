"""Who starts the servers that a unit runs on.

A mode is made once, with the options and its own copy of the suite. For each run of a unit it is entered as a context,
which gives the suite's arguments; it also says afterwards what is wrong with the servers it saw (`troubles`).
"""

import contextlib
import glob
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

READY_SECONDS = 60
STOP_SECONDS = 30
BUS_PORT_GAP = 10_000


class External:
    """The suite is given the port of a server that we started, a fresh one for each run. Its CONFIG SETs and FLUSHALLs
    so reach no other unit. What the suite needs is what Redis's own tests of this mode give their server."""

    settings = ["--save", "", "--enable-protected-configs", "yes", "--enable-debug-command", "yes"]

    # How many servers there are; the suite is told of the first.
    nodes = 1
    # What the suite is told besides.
    arguments = []

    def __init__(self, options, suite):
        self.suite = suite
        self.binary = options.binary
        self.first_port = options.first_port
        self.logs = os.path.join(suite, "logs")
        self.troubles = []
        os.makedirs(self.logs)

    @contextlib.contextmanager
    def servers(self, name):
        """Starts what a run of the unit needs, gives the suite's arguments, and stops it all."""
        self.troubles = []
        ports = free_ports(self.first_port, self.nodes)
        folder = tempfile.mkdtemp(prefix="redis-compat-")
        log = os.path.join(self.logs, name.replace("/", "-") + ".server.log")
        servers = []
        try:
            with open(log, "wb") as out:
                for port in ports:
                    servers.append(self.start(port, ports, folder, out))
            for server, port in zip(servers, ports):
                wait_until_it_answers(server, port, log)
            self.prepare(ports, log)
            yield ["--host", "127.0.0.1", "--port", str(ports[0]), "--baseport", str(self.first_port + 500), *self.arguments]
            self.troubles += [f"a server ended by itself with {server.returncode}, see {log}"
                              for server in servers if server.poll() is not None]
        finally:
            # All are told before one is waited for: who is left alone with its data would look for somebody to give it to.
            for server in servers:
                server.terminate()
            for server in servers:
                stop(server)
            shutil.rmtree(folder, ignore_errors=True)
        self.troubles += panics(log)

    def start(self, port, ports, folder, out):
        """Starts one of the servers."""
        data = os.path.join(folder, str(port))
        os.makedirs(data)
        return subprocess.Popen([self.binary, "--port", str(port), "--dir", data, *self.settings, *self.cluster(ports)],
                                cwd=data, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def cluster(self, ports):
        """Settings that make these servers a cluster."""
        return []

    def prepare(self, ports, log):
        """Waits until the servers are what the suite wants; they answer already."""


class Cluster(External):
    """The same with a cluster of one node, whose clients may know slots. The suite leaves out what such a cluster does not have."""

    arguments = ["--cluster-mode"]

    def cluster(self, ports):
        return ["--cluster-enabled", "yes"]

    def prepare(self, ports, log):
        # redis-server has slots given to it; Larder has them all from the beginning, and says so.
        ask(ports[0], "CLUSTER ADDSLOTSRANGE 0 16383")
        wait_for(lambda: b"cluster_state:ok" in ask(ports[0], "CLUSTER INFO"), f"the cluster does not stand, see {log}")


class Three(Cluster):
    """A cluster of three nodes with copies of everything, each primary of a third. The suite's client knows nothing of that: it talks
    to one of them."""

    nodes = 3

    def cluster(self, ports):
        seeds = [f"127.0.0.1:{port + BUS_PORT_GAP}" for port in ports]
        return ["--cluster-enabled", "yes", "--replicas", "2", "--bootstrap-expect", "3", "--cluster-seeds", *seeds]

    def prepare(self, ports, log):
        super().prepare(ports, log)
        # A node without slots is called a master, too.
        masters = lambda port: len(re.findall(rb"master - \d+ \d+ \d+ connected \d", ask(port, "CLUSTER NODES")))
        is_spread = lambda: all(masters(port) == self.nodes and b"larder_cluster_learners:0" in ask(port, "INFO cluster")
                                for port in ports)
        wait_for(is_spread, f"the cluster's nodes are not all primaries of something, see {log}")


class Spawn:
    """The suite starts the servers itself, as many as a test needs and with the settings it wants: limits, passwords, signals,
    stops. Its processes are of the run's session and end with it."""

    def __init__(self, options, suite):
        self.suite = suite
        self.arguments = ["--baseport", str(options.first_port), "--portcount", "500", "--dont-clean"]
        self.logs = os.path.join(suite, "logs")
        self.troubles = []
        os.makedirs(self.logs)
        os.symlink(options.binary, os.path.join(suite, "src", "redis-server"))

    @contextlib.contextmanager
    def servers(self, name):
        """Gives the suite's arguments; afterwards keeps what the servers logged, and removes the rest."""
        self.troubles = []
        folders = os.path.join(self.suite, "tests", "tmp")
        try:
            yield self.arguments
        finally:
            log = os.path.join(self.logs, name.replace("/", "-") + ".server.log")
            with open(log, "wb") as kept:
                for said in sorted(glob.glob(os.path.join(folders, "server*", "std???"))):
                    with open(said, "rb") as file:
                        kept.write(file.read())
            shutil.rmtree(folders, ignore_errors=True)
            os.makedirs(folders)
        self.troubles = panics(log)


def panics(log):
    """The lines of a server's log that no server may write."""
    with open(log, encoding="utf-8", errors="replace") as file:
        return [f"the server's log: {line.strip()}" for line in file if "panicked" in line]


def free_ports(first, count):
    """The first ports from `first` on that nobody listens on, nor on those for other nodes that go with them."""
    ports = [port for port in range(first, first + 500) if is_free(port) and is_free(port + BUS_PORT_GAP)][:count]
    if len(ports) < count:
        raise OSError(f"no free ports from {first} on")
    return ports


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def ask(port, command):
    """What a server answers to a command, as it is on the wire; nothing if it does not answer."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.settimeout(10)
        client.sendall(command.encode() + b"\r\nPING\r\n")
        answer = b""
        while not answer.endswith(b"+PONG\r\n"):
            more = client.recv(65536)
            if not more:
                break
            answer += more
        return answer
    return b""


def wait_for(is_so, otherwise):
    """Returns once it is so; raises with the words `otherwise` if that takes too long."""
    until = time.monotonic() + READY_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise OSError(otherwise)
        time.sleep(0.05)


def wait_until_it_answers(server, port, log):
    """Returns once PING is answered; raises if the server ends or takes too long."""
    wait_for(lambda: server.poll() is not None or b"+PONG" in ask(port, "PING"), f"the server does not answer, see {log}")
    if server.poll() is not None:
        raise OSError(f"the server has ended, see {log}")


def stop(server):
    """Asks the server to end, and ends it if it does not."""
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


MODES = {"external": External, "spawn": Spawn, "cluster": Cluster, "three": Three}
