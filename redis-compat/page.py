"""The tables in docs/compatibility-tests.md, made from expected.txt: for each unit, what passes and what the rest lacks.

A table stands between `<!-- MODE -->` and `<!-- end -->`.
"""

import re
from collections import Counter


def is_current(path, plan):
    """Whether the page says what expected.txt does."""
    with open(path, encoding="utf-8") as file:
        page = file.read()
    return filled(page, plan) == page


def write(path, plan):
    """Writes the tables anew."""
    with open(path, encoding="utf-8") as file:
        page = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(filled(page, plan))


def filled(page, plan):
    return re.sub(r"(?s)<!-- (\w+) -->\n.*?<!-- end -->",
                  lambda found: f"<!-- {found.group(1)} -->\n{table(plan, found.group(1))}<!-- end -->", page)


def table(plan, mode):
    rows = ["| unit | passes | of | what the others lack |", "|---|---|---|---|"]
    passing, total = 0, 0
    for (_, unit), tests in sorted(item for item in plan.items() if item[0][0] == mode):
        passes, of = tests.passing.total(), tests.all().total()
        passing, total = passing + passes, total + of
        rows.append(f"| {unit} | {passes} | {of} | {missing(tests)} |")
    rows.append(f"| **all** | **{passing}** | **{total}** | |")
    return "\n".join(rows) + "\n"


def missing(tests):
    """Why tests do not pass, and how many of them, most frequent reasons first."""
    reasons = Counter()
    for groups in (tests.failing, tests.skipped):
        for reason, names in groups.items():
            reasons[reason.partition(";")[0].replace("|", "\\|")] += len(names)
    return "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
