"""Pages in one file: what is put in stays what it is, and nothing else runs."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from focuspull.dataset.page import fill, inline_json, policy


def test_places_are_filled_once(tmp_path: Path) -> None:
    template = tmp_path / "t.html"
    template.write_text("<p><!--{a}--></p><!--{b}--><!-- {a} -->")
    # What is put in may itself look like a place.
    assert fill(template, {"a": "<!--{b}-->", "b": "é"}) == "<p><!--{b}--></p>é<!-- {a} -->".encode()
    with pytest.raises(KeyError, match="b"):
        fill(template, {"a": "1"})


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "a & b", "\u2028", "]]>"])
def test_json_in_a_page_is_no_markup(text: str) -> None:
    inline = inline_json({"name": text})
    assert not set("<>&\u2028") & set(inline)
    assert json.loads(inline) == {"name": text}


def test_the_policy_allows_this_style_and_script_only() -> None:
    def sha256(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    rules = dict(rule.strip().split(" ", 1) for rule in policy("p {}", "run()").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'sha256-{sha256('p {}')}'"
    assert rules["script-src"] == f"'sha256-{sha256('run()')}'"
    assert rules["img-src"] == "data:"
    assert "media-src" not in rules
    assert "media-src data:" in policy("", "", media=True)
