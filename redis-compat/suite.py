"""Where the suite comes from: the source package of redis, at the version that expected.txt was written for.

Asks the package sources of this machine for source packages, with lists and state in a folder of ours: the system's own
are not touched. The package's signature is checked by apt as always.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

VERSION = "7.0.15"


def unpack(work):
    """Returns the folder of the unpacked source package below `work`, fetching it if it is not there."""
    where = os.path.join(work, f"redis-{VERSION}")
    if not os.path.isdir(os.path.join(where, "tests")):
        shutil.rmtree(where, ignore_errors=True)
        fetch(os.path.join(work, "apt"), work)
    if not os.path.isdir(os.path.join(where, "tests")):
        sys.exit(f"the source package of redis here is not {VERSION}: {os.listdir(work)}")
    return where


def fetch(apt, work):
    """Downloads and unpacks the source package into `work`; `apt` holds the lists."""
    for folder in ["parts", "state/partial", "cache/archives/partial"]:
        os.makedirs(os.path.join(apt, folder), exist_ok=True)
    write_sources(os.path.join(apt, "parts"))
    command = ["apt-get", "-q", "-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={apt}/parts",
               "-o", f"Dir::State::Lists={apt}/state", "-o", f"Dir::Cache={apt}/cache", "-o", "APT::Sandbox::User="]
    print("fetching the source package of redis", flush=True)
    for words in [["update"], ["source", "redis"]]:
        subprocess.run(command + words, cwd=work, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=600)


def write_sources(parts):
    """Writes the distribution's own package sources of this machine into `parts`, as sources of source packages."""
    found = 0
    for path in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]:
        if not path.endswith((".list", ".sources")) or not os.path.exists(path):
            continue
        with open(path) as file:
            text = file.read()
        split = "\n\n" if path.endswith(".sources") else "\n"
        kept = [entry for entry in text.split(split) if re.search(r"^(?!#).*https?://\S*/(debian|ubuntu)", entry, re.M)]
        kept = [re.sub(r"^(Types: *|)deb( .*)?$", r"\1deb-src\2", entry, flags=re.M) for entry in kept]
        with open(os.path.join(parts, os.path.basename(path)), "w") as file:
            file.write(split.join(kept) + "\n")
        found += len(kept)
    if not found:
        sys.exit("apt has no package source of Debian or Ubuntu here; give an unpacked source package by --suite")


def copy(where, to):
    """Copies the suite's part of a source package to `to`, afresh, and returns `to`."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(os.path.join(where, "tests"), os.path.join(to, "tests"))
    os.makedirs(os.path.join(to, "tests", "tmp"), exist_ok=True)
    os.makedirs(os.path.join(to, "src"))
    for tool in ["redis-cli", "redis-benchmark"]:
        os.symlink(shutil.which(tool) or sys.exit(f"{tool} is missing"), os.path.join(to, "src", tool))
    return to
