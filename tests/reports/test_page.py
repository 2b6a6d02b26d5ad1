"""A rule's page on a terminal."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from bncheck import catalogue
from bncheck.reports.layout import ansi
from bncheck.reports.page import page

MARKDOWN = """\
# BN207 dead-channels

## What it finds

A paragraph of `code`, with a [link](https://example.org/page) in it, that is long enough to be
wrapped somewhere.
Still the same one.

    y = x  # indented

- an item that is long enough to be wrapped as well, with the next line of it standing further in
- another
1. a number

## Example

```python
if True:

    ## no heading
    - no item
```

| a | b |
|---|---|
| 1 | 2 |
"""


def test_a_page(make: Any) -> None:
    rule = catalogue.parse(
        "+++\n"
        'id = "BN207"\nname = "dead-channels"\nlevel = "warning"\ntrain = "info"\n'
        'kinds = "all"\nevidence = ["tensors", "graph"]\ndefault = false\nstatus = "stable"\n'
        'since = "0.1.0"\nfix = "x"\ncheck = "statistics:dead_channels"\n'
        "+++\n" + MARKDOWN
    )
    expected = """
    BN207 dead-channels
      level: warning, info in a training checkpoint
      layers: every normalization layer
      evidence: graph, tensors
      default: off; turn it on with --select BN207
      since: 0.1.0
      options: threshold = 0.001 in [tool.bncheck.rules.BN207]

    What it finds
      A paragraph of `code`, with a link (https://example.org/page) in it, that is
      long enough to be wrapped somewhere. Still the same one.

        y = x  # indented

      - an item that is long enough to be wrapped as well, with the next line of it
        standing further in
      - another
      1. a number

    Example
        if True:

            ## no heading
            - no item

      | a | b |
      |---|---|
      | 1 | 2 |
    """
    assert page(rule) == dedent(expected).lstrip("\n")


@pytest.mark.parametrize("rule", catalogue.load().values(), ids=lambda rule: rule.id)
def test_every_page_is_readable(rule: catalogue.Rule) -> None:
    text = page(rule)
    assert text.startswith(f"{rule.id} {rule.name}\n  level: ")
    assert [heading for heading in catalogue.HEADINGS if f"\n\n{heading}\n" not in text] == []
    assert "+++" not in text and "```" not in text and "\n#" not in text
    assert page(rule, ansi) != text
