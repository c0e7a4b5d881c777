"""HTML pages from the templates beside this file, each whole in itself (the only jinja2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def page(template: str, **words: Any) -> str:
    """The page that `template` makes of `words`. A word that is missing is an error."""
    import jinja2  # noqa: PLC0415 -- heavy

    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined)
    return pages.get_template(template).render(**words)
