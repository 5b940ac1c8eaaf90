"""What the documents name is there: files are renamed more often than pages are read."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PAGES = [*sorted((REPO / "docs").glob("*.md")), REPO / "README.md", REPO / "CHANGELOG.md"]
FOLDERS = ("lineage", "scripts", "tests", "docs")
FILES = [f"/{p.relative_to(REPO)}" for folder in FOLDERS for p in (REPO / folder).rglob("*.*")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`([\w/]+\.(?:py|md))`", text))
    named |= {m.replace(".", "/") + ".py" for m in re.findall(r"`python -m (scripts[\w.]+)", text)}
    missing = {n for n in named if not any(f.endswith(f"/{n}") for f in FILES)}
    assert not missing
