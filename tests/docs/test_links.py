"""Links between pages, and from them into the repository, lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, SITE, without_code
from tools.site.hook import on_page_content, on_page_markdown, on_post_page

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub and the site make them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {word.strip().replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in SITE if f": {page.name}\n" not in text] == []


def test_a_link_out_of_the_site_is_the_path_in_the_repository() -> None:
    assert on_page_markdown("see [`lazy.py`](../q2/lazy.py)") == "see `q2/lazy.py`"
    assert on_page_markdown("[a plugin](../examples/q2-plugin-mlflow)") == "a plugin (`examples/q2-plugin-mlflow`)"
    assert on_page_markdown("<!-- not run: takes hours -->") == "Not run by the tests: takes hours.\n{ .not-run }\n"
    with pytest.raises(FileNotFoundError, match="links to q2/nothing.py"):
        on_page_markdown("[`nothing.py`](../q2/nothing.py)")


def test_empty_headers_of_tables_are_none() -> None:
    row = "<tr>\n<td>a</td>\n<td>b</td>\n</tr>"
    headed = "<thead>\n<tr>\n<th>a</th>\n<th></th>\n</tr>\n</thead>\n"
    assert on_page_content(headed + row) == headed.replace("<th></th>", "<td></td>") + row
    assert on_page_content("<thead>\n<tr>\n<th></th>\n<th></th>\n</tr>\n</thead>\n" + row) == row


def test_navigations_have_names_of_their_own() -> None:
    one = '<nav class="a" aria-label="Contents"></nav>'
    assert on_post_page(one + one) == one + one.replace("Contents", "Contents (2)")
