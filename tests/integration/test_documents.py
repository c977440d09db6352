"""What the documents say is executed: the README's commands and code, its table, the quickstart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloudreg.settings import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def environment() -> dict[str, str]:
    """Return this environment with the installed command line first on the path."""
    tools = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def section(title: str) -> str:
    """Return what stands under a heading."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def run(command: str, folder: Path) -> str:
    """Run a line of a console, and return what it says."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_twelve_lines(tmp_path: Path) -> None:
    """The README's example does in an empty folder what it promises, line by line."""
    said = ""
    blocks = FENCE.findall(section("Twelve lines"))
    assert [kind for kind, _ in blocks] == ["console", "python", "console"]
    try:
        for kind, text in blocks:
            if kind == "python":
                assert len([line for line in text.splitlines() if line.strip()]) == 12
                (tmp_path / "example.py").write_text(text)
                said += run("python example.py", tmp_path)
            else:
                for line in text.splitlines():
                    said += run(line.removeprefix("$ "), tmp_path)
    finally:
        subprocess.run(
            ["cloudreg", "down", "--yes"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            check=False,
        )
    assert "+ endpoint churn-staging on local" in said  # the dry run's plan
    assert re.search(r"^\[\[-?\d+\.\d+, -?\d+\.\d+\]\]$", said, re.MULTILINE)  # what predict said
    assert '"predictions"' in said
    assert "churn-staging on local" in said
    assert "The ledger is sound" in said


def test_streams_queues_and_data_sets(tmp_path: Path) -> None:
    """A model streams, and a data set is scored, as the README says; its settings can be read."""
    said = ""
    blocks = FENCE.findall(section("Streams, queues and data sets"))
    try:
        for kind, text in blocks:
            named = re.match(r"# (\w+\.py)\n", text)
            if kind == "python" and named:
                (tmp_path / named[1]).write_text(text)
            elif kind == "python":
                (tmp_path / "example.py").write_text(text)
                said += run("python example.py", tmp_path)
            elif kind == "console":
                for line in text.splitlines():
                    said += run(line.removeprefix("$ "), tmp_path)
            else:
                settings = tmp_path / "more" / "cloudreg.toml"
                settings.parent.mkdir()
                settings.write_text(text)
                assert {e.kind for e in load(settings).endpoints.values()} == {
                    "serverless",
                    "asynchronous",
                }
    finally:
        subprocess.run(
            ["cloudreg", "down", "--yes"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            check=False,
        )
    assert "[[6.0]]\n[[5.0]]\n[[4.0]]\n" in said
    assert '{"predictions": [[5.0]]}' in said
    assert "2 records scored by churn:1 on local" in said
    assert '{"prediction":[6.0]}\n{"prediction":[15.0]}\n' in said


def test_beside_terraform(tmp_path: Path) -> None:
    """The variables are written, values are shown with what set them, and the section is read."""
    (toml, text), console = FENCE.findall(section("Beside Terraform"))
    said = "".join(run(line.removeprefix("$ "), tmp_path) for line in console[1].splitlines())
    assert "cloudreg.auto.tfvars.json: 1 model, 1 endpoint" in said
    assert re.search(r"^endpoints\.churn-staging\.model +churn +cloudreg\.toml, line", said, re.M)

    assert toml == "toml"
    (tmp_path / "infra").mkdir()
    section_of = {"provider": "sagemaker", "region": "eu-central-1", "bucket": "models"}
    value = {"contract": 1, "targets": {"aws": section_of}}
    (tmp_path / "infra/outputs.json").write_text(json.dumps({"cloudreg": {"value": value}}))
    settings = tmp_path / "cloudreg.toml"
    settings.write_text(text)
    assert load(settings).targets["aws"].options == {
        "region": "eu-central-1",
        "bucket": "models",
        "network_isolation": True,
    }


def test_gpus_prices_and_hours(tmp_path: Path) -> None:
    """What the section configures can be read, and has the price that its words promise."""
    (toml, text), console, _ = FENCE.findall(section("GPUs, prices and hours"))
    assert toml == "toml"
    (tmp_path / "cloudreg.toml").write_text(text)
    said = [run(line.removeprefix("$ "), tmp_path) for line in console[1].splitlines()]

    endpoints = {e["endpoint"]: e for e in json.loads(said[1])["endpoints"]}
    assert endpoints["churn-aws"]["usd_per_hour"] == {"min": 1.41, "max": 5.64}
    assert endpoints["churn-gcp"]["machines"] == ["g2-standard-8"]
    assert endpoints["churn-gcp"]["usd_per_hour"]["max"] == 0.9
    assert "[prices.gcp]" in endpoints["churn-gcp"]["sources"]
    assert endpoints["churn-large"]["machines"] == ["ml.g6e.xlarge"]
    assert endpoints["churn-day"]["hours_per_month"] == pytest.approx(730 * 60 / 168)
    assert "churn-aws" in said[0]


def test_several_clouds(tmp_path: Path) -> None:
    """What the README shows of several targets works as it stands, one line after the other."""
    (toml, text), console = FENCE.findall(section("Several clouds"))
    assert toml == "toml"
    (tmp_path / "cloudreg.toml").write_text(text)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.txt").write_text("weights")
    lines = [line.removeprefix("$ ") for line in console[1].splitlines()]
    dry = next(line for line in lines if "--dry-run" in line)
    said = {line: run(line, tmp_path) for line in lines if line != dry}
    assert "churn:1 is in prod now" in said["cloudreg promote churn:1 --to prod"]
    assert "The copy on there is the home's ledger" in said[lines[-1]]


def test_capabilities() -> None:
    """The README's table of capabilities is the one that the code prints."""
    table = run("cloudreg providers --markdown", ROOT)
    shown = README.partition("<!-- capabilities: begin -->\n")[2]
    assert shown.partition("<!-- capabilities: end -->")[0].strip() == table.strip()


def test_links() -> None:
    """Every file that a document links to is there."""
    for document in ROOT.rglob("*.md"):
        if any(part.startswith(".") for part in document.relative_to(ROOT).parts):
            continue
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_multi_cloud_promotion() -> None:
    """The same bytes serve on two clouds, which answer alike and show what the ledger says."""
    script = str(ROOT / "examples/multi_cloud_promotion/run.py")
    done = subprocess.run(
        [sys.executable, script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"largest difference \d\.\de[-+]\d\d, allowed 1e-06", done.stdout)
    assert "prod: moons:1; the registries show aws [1], gcp [1]" in done.stdout
    assert "no drift" in done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "target",
    [
        "local",
        pytest.param("sagemaker", marks=pytest.mark.slow),
        pytest.param("vertex", marks=pytest.mark.slow),
    ],
)
def test_quickstart(tmp_path: Path, target: str) -> None:
    """The quickstart ends well: equal answers, no lost request, a refusal, a sound ledger."""
    script = str(ROOT / "examples/quickstart/run.py")
    done = subprocess.run(
        [sys.executable, script, "--folder", str(tmp_path / "q"), "--target", target],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"largest difference \d\.\de-\d\d, allowed 1e-05", done.stdout)
    # Vertex AI tells versions and no variants.
    new, old = ("version 2", "version 1") if target == "vertex" else ("canary", "primary")
    first, second = sorted([f"(\\d+) by {new}", f"(\\d+) by {old}"], key=lambda text: text[6:])
    answered = re.search(rf"(\d+) answered \({first}, {second}\), 0 lost", done.stdout)
    assert answered
    assert all(int(count) > 20 for count in answered.groups())
    assert "FAIL  golden: 0 of 270 samples agree" in done.stderr
    assert "digits:1 is in prod now" in done.stdout
    assert "The ledger is sound" in done.stdout
    assert "removed 2 endpoints" in done.stdout
