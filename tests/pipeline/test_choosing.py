"""Recipes that choose: who films, who films instead, several films of one wish, films made of films, who agrees."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shoot import Server, Shoot, server
from workshop import environment, ffmpeg, frames_of

SHORT = """\
inputs: {prompt: a rose}
steps:
  - generate: {prompt: $prompt, frame: 16:9, length: 3s, HOW}
  - trim: {length: 0.5s}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""

OWN = "{{base_url: '{url}', dialect: any, model: {model}, seconds: [4, 8], sizes: [1280x720], price: {price}}}"


def recipe(how: str, top: str = "") -> str:
    """SHORT, with `how` it is bought."""
    return top + SHORT.replace("HOW", how)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that films at once."""
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def shoot(quick: Server, tmp_path: Path) -> Shoot:
    """An empty project, that buys there."""
    return Shoot(tmp_path / "own", quick)


def models(shoot: Shoot, **lines: str) -> None:
    """`models.yaml`: models on servers of one's own."""
    text = "".join(f"{name}: {line}\n" for name, line in lines.items())
    (shoot.workshop.folder / "models.yaml").write_text(text)


def on(one: Server | str, model: str = "sim", price: str = "0.1") -> str:
    """A line that says that a model is on that server."""
    return OWN.format(url=one if isinstance(one, str) else one.url, model=model, price=price)


# ---------------------------------------------------------------- who films instead


def test_a_model_that_cannot_be_reached_gives_way_to_the_next(shoot: Shoot) -> None:
    models(shoot, first=on("http://127.0.0.1:9/v1"), second=on(shoot.server))
    shoot.workshop.write(recipe("model: [first, second]", "budget: $2\n"))
    with shoot.sells(1):
        told = shoot.run()
    assert (told["bought"], told["spent"]) == (1, "0.40")
    assert any("cannot reach any" in said and "another was asked" in said for said in told["warnings"])


def test_where_nobody_is_left_the_failure_is_told(shoot: Shoot) -> None:
    models(shoot, first=on("http://127.0.0.1:9/v1"))
    shoot.workshop.write(recipe("model: first", "budget: $2\n"))
    with shoot.sells(0):
        assert "cannot reach any" in shoot.refused(1)


def test_a_dearer_model_than_was_agreed_to_is_not_asked(shoot: Shoot) -> None:
    models(shoot, first=on("http://127.0.0.1:9/v1"), second=on(shoot.server, price="9"))
    shoot.workshop.write(recipe("model: [first, second]"))
    with shoot.sells(0):
        said = shoot.refused(1, "--yes")
    assert "by another model this run would pay $36" in said


@pytest.mark.parametrize(("how", "sold"), [("", 0), (", on_refusal: next", 1)])
def test_what_a_policy_refuses_goes_to_the_next_only_if_asked(
    shoot: Shoot, tmp_path: Path, how: str, sold: int
) -> None:
    options = ("--latency", "0", "--settle", "0.3", "--fault", "moderated")
    with server(tmp_path / "prim", *options) as prim:
        models(shoot, first=on(prim), second=on(shoot.server, "sim-pro"))
        shoot.workshop.write(recipe(f"model: [first, second]{how}", "budget: $2\n"))
        with shoot.sells(sold):
            if sold:
                assert shoot.run()["bought"] == 1
            else:
                assert "content policy" in shoot.refused(1)
        assert prim.sales() == 0


def test_a_region_is_kept_to(shoot: Shoot) -> None:
    models(shoot, first=f"{on('http://gpu.example.com/v1')[:-1]}, trust_host: true}}")
    shoot.workshop.write(recipe("model: first", "region: eu\nbudget: $2\n"))
    assert "first does not say where it films, not in eu" in shoot.refused(2)


def test_the_plan_says_who_gets_what(shoot: Shoot) -> None:
    models(shoot, first=on(shoot.server))
    shoot.workshop.write(recipe("model: [sora-2, first]", "budget: $2\n"))
    said = shoot.workshop.cli("plan", "film.yaml", env=shoot.env).stdout
    assert "127.0.0.1 gets the prompt (generate)" in said
    assert "generate: passed over: sora-2 closed on 2026-09-24" in said
    assert "out/web.mp4 costs $0.40, 4 s bought, 0.5 s kept, 3.5 s wasted" in said
    told = json.loads(shoot.workshop.cli("plan", "film.yaml", "--json", env=shoot.env).stdout)
    assert told["hosts"] == {"127.0.0.1": "the prompt (generate)"}
    assert told["costs"]["out/web.mp4"]["seconds_wasted"] == "7/2"


# ---------------------------------------------------------------- several films of one wish


def test_takes_are_all_bought_one_is_kept_and_the_report_shows_both(shoot: Shoot) -> None:
    shoot.workshop.write(recipe("model: sim, takes: 2"))
    with shoot.sells(2):
        told = shoot.run()
    (file,) = told["files"]
    cost = file["cost"]
    assert (told["bought"], told["spent"], cost["purchases"], cost["seconds_bought"]) == (2, "0.80", 2, "8")
    page = (shoot.workshop.folder / told["report"]).read_text()
    assert page.count("sim: 4 s, 1280x720, $0.40") == 4, "two films, each with its picture and its words"
    assert page.count(">kept<") == 1
    assert len(list((shoot.home / "originals").glob("*.mp4"))) == 2, "the loser stays"
    with shoot.sells(0):
        shoot.run()


def test_models_are_compared_on_one_prompt(shoot: Shoot) -> None:
    shoot.workshop.write(recipe("compare: [sim, sim-pro], pick: first"))
    with shoot.sells(2):
        told = shoot.run()
    assert told["spent"] == "1.60"
    page = (shoot.workshop.folder / told["report"]).read_text()
    assert re.search(r"<b>sim: 4 s, 1280x720, \$0\.40</b> <span class=\"proved\">kept", page)
    assert "<b>sim-pro: 4 s, 1280x720, $1.20</b>" in page
    with shoot.sells(0):
        shoot.run()


# ---------------------------------------------------------------- films made of films

WORK = """\
steps:
  - name: shot
    generate: {prompt: a rose, frame: 16:9, length: 3s, model: sim}
  - JOB
  - trim: {length: 4s}
  - upscale: {size: 320x180}
deliver: [{preset: web, file: out/web.mp4}]
"""


def test_a_film_is_filmed_anew_and_the_first_is_an_ingredient(shoot: Shoot) -> None:
    shoot.workshop.write(WORK.replace("JOB", "remix: {of: $shot, prompt: the same in heavy rain}"))
    with shoot.sells(2):
        told = shoot.run()
    (file,) = told["files"]
    assert (told["bought"], told["spent"], file["provenance"]) == (2, "0.80", "proved")
    assert frames_of(shoot.workshop.folder / "out" / "web.mp4") == 96
    verified = shoot.workshop.cli("verify", "out/web.mp4", "--json", env=shoot.env)
    tree = json.loads(verified.stdout)["credentials"]
    assert sorted(each["relationship"] for each in tree["ingredients"]) == ["inputTo", "parentOf"]
    with shoot.sells(0):
        shoot.run()


def test_a_film_is_made_longer(shoot: Shoot) -> None:
    text = WORK.replace("JOB", "extend: {of: $shot, length: 3s}").replace("length: 4s", "length: 7s")
    shoot.workshop.write(text)
    with shoot.sells(2):
        told = shoot.run()
    assert told["spent"] == "0.80"
    assert frames_of(shoot.workshop.folder / "out" / "web.mp4") == 168
    with shoot.sells(0):
        shoot.run()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("remix: {of: $shot, prompt: rain, model: kling-4}", "kling-4"),
        ("remix: {of: $shot}", "remix.prompt: is missing"),
        ("extend: {of: $shot, length: 30s}", "sim goes on for at most 20 s, not 30 s"),
        ("enlarge: {of: $shot, size: 1920x1080, model: sim}", "sim is none that enlarges films"),
        ("remix: {of: clip.mp4, prompt: rain}", "should name a model that remixes films"),
    ],
)
def test_what_cannot_be_done_to_a_film_is_told_before_anything_is_bought(shoot: Shoot, job: str, words: str) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x90:r=24:d=2", shoot.workshop.folder / "clip.mp4")
    shoot.workshop.write(WORK.replace("JOB", job))
    with shoot.sells(0):
        assert words in shoot.refused(2)


@pytest.mark.parametrize(
    "job",
    [
        "remix: {of: $shot, prompt: rain, model: runway-aleph-2}",
        "extend: {of: $shot, length: 3s, model: [veo-3.1, own]}",
        "remix: {of: $shot, prompt: rain, model: sora-2}",
    ],
)
def test_with_sim_nobody_else_works_on_a_film(shoot: Shoot, job: str) -> None:
    models(shoot, own=on(shoot.server), shot=on(shoot.server))
    text = WORK.replace("JOB", job).replace("model: sim", "model: shot")
    shoot.workshop.write(text)
    env = {**shoot.env, "RUNWAYML_API_SECRET": "key_x"}
    said = shoot.workshop.cli("plan", "film.yaml", "--sim", env=env)
    assert "(SIMULATED: nothing is paid)" in said.stdout.splitlines()[-1], said
    assert "sim remixes films" in said.stdout or "sim makes films longer" in said.stdout
    assert " gets " not in said.stdout


def test_what_no_simulator_does_is_refused_with_sim(shoot: Shoot) -> None:
    shoot.workshop.write(WORK.replace("JOB", "enlarge: {of: $shot, size: 1920x1080, model: runway-magnific-upscaler}"))
    env = {**shoot.env, "RUNWAYML_API_SECRET": "key_x"}
    said = shoot.workshop.cli("plan", "film.yaml", "--sim", env=env)
    assert (said.returncode, "sim is none that enlarges films" in said.stderr) == (2, True)


def test_a_loop_is_cross_faded_where_the_model_films_none(shoot: Shoot) -> None:
    shoot.workshop.write(recipe("model: sim, loop: true").replace("  - trim: {length: 0.5s}\n", ""))
    told = shoot.run()
    assert told["files"][0]["frames"] == 72
    said = shoot.workshop.cli("plan", "film.yaml", "--set", "prompt=two roses", env=shoot.env).stdout
    assert "sim films no loop: its end is cross-faded into its beginning" in said


def test_a_shot_is_said_in_parts(shoot: Shoot) -> None:
    shoot.workshop.write(recipe("shot: {subject: a dandelion, camera: slow dolly in, lens: 85 mm}, model: sim"))
    planned = json.loads(shoot.workshop.cli("plan", "film.yaml", "--json", env=shoot.env).stdout)
    assert planned["tasks"][0]["action"] == "pay"
    shoot.workshop.write(recipe("shot: {camera: slow dolly in, lense: 85 mm}, model: sim"))
    said = shoot.refused(2)
    assert "generate.shot.lense: is not known (did you mean lens?)" in said
    assert "generate.shot: subject missing" in said


# ---------------------------------------------------------------- who agrees


def test_a_recipe_can_wait_until_somebody_agrees(shoot: Shoot) -> None:
    shoot.workshop.write(recipe("model: sim", "budget: {total: $2, approve: true}\n"))
    with _waiting(shoot) as number, shoot.sells(0):
        listed = shoot.workshop.cli("approve", env=shoot.env).stdout
        assert f"{number}  $0.40  film.yaml" in listed
    with _waiting(shoot), shoot.sells(1):
        shoot.workshop.cli("approve", number, env=shoot.env)
        end = time.monotonic() + 300
        while not (shoot.workshop.folder / "out" / "web.mp4").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
    assert "nothing waits" in shoot.workshop.cli("approve", env=shoot.env).stdout


@contextlib.contextmanager
def _waiting(shoot: Shoot, *, ends: bool = False) -> Iterator[str]:
    """A run that waits for approval, by the number that it says; in the end killed, or waited for."""
    command = shoot.workshop.command("run", "film.yaml")
    with subprocess.Popen(
        command, cwd=shoot.workshop.folder, env=environment(shoot.env), stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr
        line = run.stderr.readline()
        match = re.search(r"pipeline approve (\w+)", line)
        assert match, line
        yield match[1]
        if ends:
            run.communicate(timeout=300)
        else:
            run.kill()


def test_who_declines_stops_it(shoot: Shoot) -> None:
    shoot.workshop.write(recipe("model: sim", "budget: {approve: true}\n"))
    with _waiting(shoot) as number:
        shoot.workshop.cli("approve", number, "--decline", env=shoot.env)
    with shoot.sells(0):
        assert "nobody agreed to pay $0.40" in shoot.refused(1)


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ("budget: {day: $5/month}\n", "budget.day: should be an amount such as $6"),
        ("budget: {label: $5}\n", "budget.label: is for what is billed to a label: give bill_to:"),
        ("budget: {unknown_price: maybe}\n", "budget.unknown_price: should be pay or stop"),
        ("budget: {account: lots}\n", "budget.account: should be an amount of US dollars"),
        ("budget: {approve: perhaps}\n", "budget.approve: should be true or false"),
    ],
)
def test_mistakes_in_budgets_are_told(shoot: Shoot, top: str, words: str) -> None:
    shoot.workshop.write(recipe("model: sim", top))
    assert words in shoot.refused(2)


def test_no_purchase_of_several_may_pass_the_budget_for_each(shoot: Shoot) -> None:
    """$0.08 and $0.40 are $0.24 on average."""
    models(shoot, first=on(shoot.server, price="0.02"), second=on(shoot.server, "sim-pro"))
    shoot.workshop.write(recipe("compare: [first, second]", "budget: {each: $0.30}\n"))
    with shoot.sells(0):
        assert "generate costs $0.40, and the recipe's budget for each purchase is $0.30" in shoot.refused(1)


def test_several_films_are_counted_each(shoot: Shoot) -> None:
    shoot.workshop.write(recipe("compare: [sim, sim-pro], takes: 2"))
    said = shoot.workshop.cli("plan", "film.yaml", env=shoot.env).stdout
    assert "2 times sim films 4 s, 3 s are asked for, 1280x720, $0.40; 2 times sim-pro films" in said
    assert "out/web.mp4 costs $3.20 (SIMULATED), 4 purchases, 16 s bought" in said


UNKNOWN = "{{base_url: '{}', dialect: any, model: sim, seconds: [4, 8], sizes: [1280x720]}}"


def test_what_has_no_known_price_is_no_bargain(shoot: Shoot) -> None:
    models(shoot, own=UNKNOWN.format(shoot.server.url))
    shoot.workshop.write(recipe("model: own", "budget: {unknown_price: pay, total: $2}\n"))
    said = shoot.workshop.cli("plan", "film.yaml", env=shoot.env).stdout
    assert said.startswith(" pay ?  ")
    assert "out/web.mp4 costs $0.00, and the unknown price of 1, 4 s bought" in said
    assert said.splitlines()[-1].endswith("; $0.00 to pay, and the unknown price of 1")


def test_an_unknown_price_waits_for_approval_too(shoot: Shoot) -> None:
    models(shoot, own=UNKNOWN.format(shoot.server.url))
    shoot.workshop.write(recipe("model: own", "budget: {unknown_price: pay, approve: true}\n"))
    with _waiting(shoot) as number, shoot.sells(0):
        listed = shoot.workshop.cli("approve", env=shoot.env).stdout
        assert f"{number}  $0.00  film.yaml, and the unknown price of 1" in listed


def test_a_dearer_model_than_was_approved_is_not_asked(shoot: Shoot) -> None:
    models(shoot, first=on("http://127.0.0.1:9/v1"), second=on(shoot.server, price="0.2"))
    shoot.workshop.write(recipe("model: [first, second]", "budget: {total: $2, approve: true}\n"))
    with _waiting(shoot, ends=True) as number:  # killed while it asks the first, nobody would know what that one sold
        shoot.workshop.cli("approve", number, env=shoot.env)
    with shoot.sells(0):
        assert "by another model this run would pay $0.80" in shoot.refused(1)


def test_a_days_budget_is_seen_in_the_plan(shoot: Shoot) -> None:
    models(shoot, first=on(shoot.server))
    shoot.workshop.write(recipe("model: first", "budget: {day: $0.60}\nbill_to: spring\n"))
    shoot.run()
    shoot.workshop.write(recipe("model: first, take: 2", "budget: {day: $0.60}\nbill_to: spring\n"))
    with shoot.sells(0):
        assert "with the $0.40 of the last 24 hours that is more than $0.60" in shoot.refused(1)
