"""Markdown as another parser reads it: the structure is bncheck's, the names are text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bncheck.report import Unreadable
from bncheck.reports.layout import printable, shortened
from bncheck.reports.markdown import JOINER, code, escaped, render
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome

CLOSED = ("/table", "/thead", "/tr", "/th", "/code")
MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt


class Seen(HTMLParser):
    """The tags of a document, its text, and the text of its code and of its rows."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.codes: list[str] = []
        self.rows: list[int] = []
        html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.feed(html.render(markdown))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "code":
            self.codes.append("")
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] == "code":
            self.codes[-1] += data


def shown(*entries: Any, **style: Any) -> str:
    return render(Outcome(entries), Style(**style))


def test_findings_are_a_table(make: Any) -> None:
    found = [
        *make.findings("BN101", make.resnet, "Saved in training mode."),
        *make.findings("BN202", ["bn1"], "running_var is -0.2"),
        *make.findings("BN207", ["bn1"], "dead"),
    ]
    missing = make.missing(["BN103"], "order", "a module holds none", "check the .onnx")
    checked = make.checked(make.model(member="ema"), found, missing, path="./models/a.pt")
    assert shown(checked, fail_on="warning") == dedent(
        """\
        ## bncheck

        1 file: 2 errors in 49 layers (exit 1). More: bncheck explain BN101

        ### ❌ `models/a.pt` [`ema`]: pickled module, 49 BatchNorm

        | level | rule | where | what |
        |---|---|---|---|
        | ❌ error | BN202 negative-variance | `bn1` | running_var is -0.2<br>**Fix:** fix it. |
        | ❌ error | BN101 training-mode | `bn1`, `layer1.0.bn1`, `layer1.0.bn2`, and 46 more | Saved in training mode.<br>**Fix:** fix it. |

        *Not assessed:* order (BN103): a module holds none. Check the .onnx.

        *Not listed:* 1 dead-channels
        """  # noqa: E501
    )


def test_models_in_order_are_a_list_and_the_rest_goes_before(make: Any) -> None:
    fine, accepted = make.checked(make.model(), path="a.pt"), make.findings("BN202", ["x"], "m")
    kept = make.checked(make.model(), [replace(accepted[0], suppressed=True)], path="b.pt")
    text = shown(fine, Unreadable("c.pt", "is empty"), kept)
    assert text.partition("###")[2] == dedent(
        """\
         ❌ `c.pt`

        Unreadable: is empty

        - ✅ `a.pt`: ok, pickled module, 49 BatchNorm
        - ✅ `b.pt`: ok, pickled module, 49 BatchNorm (1 suppressed finding)
        """
    )


def test_one_healthy_model(make: Any) -> None:
    text = shown(make.checked(make.model()))
    assert text.splitlines()[2:] == [
        "Nothing wrong.",
        "",
        "- ✅ `model.pt`: ok, pickled module, 49 BatchNorm",
    ]


def test_required_and_open(make: Any) -> None:
    missing = make.missing(["BN101"], "mode", "a state_dict holds none")
    text = shown(make.checked(make.model(), missing=missing, require=["BN101"]))
    assert "**BN101 is required and was not assessed.**" in text and "### ❌" in text


def test_names_by_an_attacker_stay_names(make: Any, hostile: Outcome) -> None:
    seen = Seen(render(hostile, Style(show_info=True)))
    allowed = [
        "h2",
        "h3",
        "p",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "strong",
        "em",
        "br",
        "ul",
        "li",
    ]
    assert {tag.removeprefix("/") for tag in seen.tags} <= set(allowed)
    assert set(seen.rows) == {4}
    assert seen.tags.count("em") == 2 and seen.tags.count("h3") == 3  # "Not assessed:" of two
    assert shortened("<script>alert(1)</script><img src=x onerror=alert(2)>&amp;") in seen.codes


@pytest.mark.parametrize("form", ["- {}", "| a |\n|---|\n| {} |"], ids=["list", "table"])
def test_a_name_is_code_and_reads_as_it_is(make: Any, form: str) -> None:
    for name in filter(None, make.hostile_names):
        (read,) = Seen(form.format(code(name))).codes
        assert read.replace(JOINER, "").strip() == shortened(name).strip()


MARKUP = st.sampled_from([*"ab_*`|\\[]()<>&~$#@!:/.-+ \n\t\x1b{}%,=^", "www.", "https://", "```"])


@settings(max_examples=100, deadline=None)
@given(st.lists(MARKUP, min_size=1, max_size=20).map("".join))
def test_whatever_text_is_made_of_it_is_text(text: str) -> None:
    seen = Seen(f"| {code('x' + text)} | x{escaped(text)}x |\n|---|---|\n")
    assert set(seen.tags) == {*["table", "thead", "tr", "th", "code"], *CLOSED}
    assert seen.codes[0].replace(JOINER, "") == f"x{printable(text)}"


@pytest.mark.parametrize(
    "text",
    ["@octocat", "see #12", "https://evil.example", "www.evil.example", "GH-1", "a@b.example"],
)
def test_text_refers_to_nothing(text: str) -> None:
    assert JOINER in escaped(text) and escaped(text).replace(JOINER, "") == text


def test_underscores_within_a_word_stay(make: Any) -> None:
    assert escaped("running_var of _x_ is *big*") == "running_var of &#95;x&#95; is &#42;big&#42;"


@pytest.mark.parametrize("limit", [400, 2000, 10_000])
def test_a_summary_fits_where_it_must(make: Any, limit: int) -> None:
    found = make.findings("BN202", ["ü" * 50], "x")
    entries = tuple(make.checked(make.model(), found, path=f"{i}.pt") for i in range(60))
    text = render(Outcome(entries), Style(), limit)
    assert len(text.encode()) <= limit and text.endswith("see the full report.\n")
    assert limit < 2000 or text.count("###") > limit // 400
