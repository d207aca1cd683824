"""Who starts the servers that a unit runs on.

A mode is made once, with the options and its own copy of the suite. For each run of a unit it is entered as a context,
which gives the suite's arguments; it also says afterwards what is wrong with the servers it saw (`troubles`).
"""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time

READY_SECONDS = 30
STOP_SECONDS = 30


class External:
    """The suite is given the port of a server that we started, a fresh one for each run. Its CONFIG SETs and FLUSHALLs
    so reach no other unit. What the suite needs is what Redis's own tests of this mode give their server."""

    settings = ["--save", "", "--enable-protected-configs", "yes", "--enable-debug-command", "yes"]

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
        port = free_port(self.first_port)
        data = tempfile.mkdtemp(prefix="redis-compat-")
        log = os.path.join(self.logs, name.replace("/", "-") + ".server.log")
        with open(log, "wb") as out:
            server = subprocess.Popen([self.binary, "--port", str(port), "--dir", data, *self.settings],
                                      cwd=data, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            wait_until_it_answers(server, port, log)
            yield ["--host", "127.0.0.1", "--port", str(port), "--baseport", str(self.first_port + 500)]
            if server.poll() is not None:
                self.troubles.append(f"the server ended by itself with {server.returncode}, see {log}")
        finally:
            stop(server)
            shutil.rmtree(data, ignore_errors=True)
        self.troubles += panics(log)


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


def free_port(first):
    """The first port from `first` on that nobody listens on."""
    for port in range(first, first + 500):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError(f"no free port from {first} on")


def wait_until_it_answers(server, port, log):
    """Returns once PING is answered; raises if the server ends or takes too long."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
            client.settimeout(1)
            client.sendall(b"PING\r\n")
            if client.recv(7) == b"+PONG\r\n":
                return
        time.sleep(0.02)
    raise OSError(f"the server does not answer, see {log}")


def stop(server):
    """Asks the server to end, and ends it if it does not."""
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


MODES = {"external": External, "spawn": Spawn}
