"""The README gives each file one line: the first of its docstring."""

from __future__ import annotations

import re

from readme_files import ROOT, listing


def test_the_readme_lists_every_file() -> None:
    found = re.search(r"<!-- files -->\n(.*)<!-- /files -->", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert found is not None
    assert found[1].strip() == listing().strip(), "run `python tests/support/readme_files.py`"
