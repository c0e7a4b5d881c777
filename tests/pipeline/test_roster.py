"""A batch drawn up: each row read, planned and priced, and looked at once what is the same for all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import pipeline.store
from pipeline.roster import Batch, draw_up
from pipeline.rows import read_rows
from pipeline.store import Store
from stages.errors import BudgetExceeded

BUYS = """\
inputs: {{prompt: ~, name: ~, length: 1s}}
budget: {{total: {total}}}
steps: [{{generate: {{prompt: $prompt, frame: 16:9, length: 2s, model: sim}}}}, {{trim: $length}}]
deliver: [{{preset: web, file: out/$name.mp4}}]
"""


def drawn(folder: Path, rows: int, total: str = "$100") -> Batch:
    """A batch of so many films, the second of which cannot be."""
    text = BUYS.format(total=total)
    recipe = folder / "film.yaml"
    recipe.write_text(text, encoding="utf-8")
    lines = [f"fox {number},fox{number},{'9s' if number == 1 else '1s'}" for number in range(rows)]
    (folder / "rows.csv").write_text("\n".join(["prompt,name,length", *lines]), encoding="utf-8")
    return draw_up(recipe, read_rows(str(folder / "rows.csv"), recipe, text), Store(folder / ".pipeline"))


def test_what_is_the_same_for_all_rows_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERFRAME_HOME", str(tmp_path / "home"))
    (tmp_path / "pyproject.toml").touch()
    looks = Counter[str]()
    for name in ("open_market", "open_ledger", "signer_for", "check_able", "ffmpeg_binary", "trust_anchors"):

        def counted(*given: Any, _name: str = name, _real: Any = getattr(pipeline.store, name), **said: Any) -> Any:
            looks[_name] += 1
            return _real(*given, **said)

        monkeypatch.setattr(pipeline.store, name, counted)
    few, looked = drawn(tmp_path, 3), dict(looks)
    assert set(looked.values()) == {1}
    looks.clear()
    many = drawn(tmp_path, 12)
    assert looks == looked
    assert [(render.line, bool(render.fault)) for render in few.renders] == [(2, False), (3, True), (4, False)]
    assert "trim" in few.bad[0].fault
    assert few.renders[0].id == many.renders[0].id
    assert (str(many.price), len(many.keys), str(many.real_price)) == ("4.40", 11, "0")
    with pytest.raises(BudgetExceeded, match=r"all would pay \$4\.40"):
        drawn(tmp_path, 12, "$4")
