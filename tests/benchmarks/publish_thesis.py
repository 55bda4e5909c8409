"""Put what `atalaya bench thesis` wrote into the published page: `publish_thesis.py thesis.md docs/thesis-tables.md`.

Between the page's two marks stands the report as it is; what is around them is written by hand.
"""

import sys
from pathlib import Path

BEGIN, END = "<!-- begin: atalaya bench thesis -->", "<!-- end: atalaya bench thesis -->"


def published(page: str, report: str) -> str:
    """The page with the report between its marks, one heading level down."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"the page lacks {BEGIN} or {END}")
    body = "\n".join(f"#{line}" if line.startswith("##") else line for line in report.splitlines()[1:])
    return f"{before}{BEGIN}\n\n{body.strip()}\n\n{END}{after}"


def main() -> None:
    """Read both, write the page."""
    report, page = map(Path, sys.argv[1:])
    page.write_text(published(page.read_text(encoding="utf-8"), report.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
