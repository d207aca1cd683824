"""Writes measured tables into docs/benchmarks.md, each between its own pair of marks; prose around them stays."""

import os
import platform
import re
import subprocess


def write(page, sections):
    """Puts each of `sections` (name → Markdown) between its marks, adding the marks at the end if they are missing."""
    text = open(page).read() if os.path.exists(page) else "# Benchmarks\n"
    for name, body in sections.items():
        begin, end = f"<!-- {name}: measured, do not edit -->", f"<!-- {name}: end -->"
        block = f"{begin}\n\n{body.strip()}\n\n{end}"
        if begin in text:
            text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: block, text, flags=re.S)
        else:
            text = text.rstrip() + "\n\n" + block + "\n"
    with open(page, "w") as file:
        file.write(text)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    memory = int(re.search(r"MemTotal:\s*(\d+)", open("/proc/meminfo").read())[1]) / 1024 / 1024
    return (
        f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}"
    )


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def megabytes(size):
    return f"{size / 1e6:,.0f} MB"


def milliseconds(seconds):
    return f"{seconds * 1e3:,.2f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def thousands(rate):
    return f"{rate / 1e3:,.0f}k" if rate >= 9950 else f"{rate / 1e3:,.1f}k"
