"""Keeps the README's table of rules equal to the pages in rules/.

``python .ci/readme.py`` fails where it is not; with ``--write`` it is put in order.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bncheck import catalogue

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- rules -->\n", "<!-- /rules -->"


def table() -> str:
    """The rules in Markdown, each linked to its page."""
    rows = [
        f"| [{rule.id}](rules/{rule.id}-{rule.name}.md) | {rule.name} | {rule.level} "
        f"| {rule.headline} |"
        for rule in catalogue.own().values()
    ]
    return "\n".join(["", "| | rule | level | what it finds |", "|---|---|---|---|", *rows, "", ""])


def main() -> None:
    """Compare, or write."""
    text = README.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}{table()}{END}{after}"
    if "--write" in sys.argv:
        README.write_text(wanted, "utf-8")
    elif text != wanted:
        sys.exit("README.md: the table of rules is out of date; run python .ci/readme.py --write")


if __name__ == "__main__":
    main()
