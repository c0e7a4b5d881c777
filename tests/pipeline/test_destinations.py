"""Deliveries that go to a bucket: signed and proved before they appear there, and sent once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from workshop import Workshop, frames_of

from pipeline.report import write_report
from pipeline.show import summary_json
from stages.depot import depot_at
from stages.destinations import address_of, destination
from stages.errors import InputError, RecipeError
from stages.provenance import verify

pytest_plugins = ["desks"]

RECIPE = """\
steps: [{{trim: {{clip: clip.mp4, length: 1s}}}}, {{caption: {{file: words.srt, burn: no, sidecar: srt}}}}]
deliver: [{{preset: web, file: "{where}/film.mp4"}}]
"""


def test_a_film_is_delivered_to_a_bucket_once_and_restored_if_it_is_another(
    workshop: Workshop, s3: str, tmp_path: Path
) -> None:
    recipe, bucket = RECIPE.format(where=f"{s3}/out/for you"), depot_at(s3)
    first = workshop.run(recipe)
    assert [address_of(file) for file in first.placed] == [f"{s3}/out/for you/film.{kind}" for kind in ("mp4", "srt")]
    assert not (workshop.folder / "s3:").exists()
    (film,) = (entry for entry in bucket.list() if entry.name.endswith("mp4"))
    note = first.world.notes[first.final.deliveries[0].task]
    assert bucket.told(film.name) == note.sha256
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(content_of(s3, film.name))
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == note.sha256
    assert frames_of(copy) == 24
    assert verify(copy, anchors=workshop.store.anchors).verdict == "proved"
    told = summary_json(workshop.read(recipe), first, write_report(workshop.read(recipe), workshop.store, first))
    assert told["files"][0]["path"] == f"{s3}/out/for you/film.mp4"
    assert told["report"] == "reports/film.report.html"

    assert workshop.run(recipe).placed == []
    bucket.write(film.name, "another's", anew=True)
    again = workshop.run(recipe)
    assert (again.made, [address_of(file) for file in again.placed]) == ([], [f"{s3}/out/for you/film.mp4"])
    assert bucket.told(film.name) == note.sha256


def test_a_bucket_that_is_not_there_is_told(workshop: Workshop, s3: str) -> None:
    with pytest.raises(InputError, match=r"s3://no-such-bucket: it cannot take film\.mp4: there is no such bucket"):
        workshop.run(RECIPE.format(where="s3://no-such-bucket"))
    with pytest.raises(RecipeError, match=r"film.yaml:2: deliver.file: s3:///film.mp4: should be a file, s3://BUCKET/"):
        workshop.read(RECIPE.format(where="s3://"))


def test_an_address_is_a_path_and_back() -> None:
    for address in ("s3://films/a/b c.mp4", "gs://films/b.mp4", "az://account/films/b.webm"):
        path = destination(address)
        assert path
        assert (address_of(path), path.name) == (address, address.rpartition("/")[2])
    assert destination("out/a.mp4") is destination("s3/a.mp4") is None
    with pytest.raises(InputError, match="should be a file, s3://BUCKET/NAME"):
        destination("s3:/films/a.mp4")
    assert address_of(Path("/s3:/films/a.mp4")) == address_of(Path("out/a.mp4")) == ""


def content_of(s3: str, name: str) -> bytes:
    """The bytes of an object."""
    import obstore  # noqa: PLC0415 -- to look with other eyes

    return bytes(obstore.get(depot_at(s3).bucket, name).bytes())
