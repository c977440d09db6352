"""Deliberate bugs in the emulated Vertex AI, one at a time, and whether the tests notice them.

Each is put into a copy of the emulator, and the tests of what it breaks are run against the copy::

    python tests/emulator/google/mutations.py [--sample N] [WORD …]

Words pick those whose name has one of them. The exit code is that of the claim that every bug is
noticed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
EMULATOR = ROOT / "providers" / "cloudreg_emulator"
TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug, and the tests that should fail of it.

    Attributes:
        name: What goes wrong.
        file: Of the emulator, below ``google/vertex``.
        old: Is there once.
        new: Takes its place.
        tests: Words of pytest: a file beside ``vertex/``, and ``-k`` with what it is to run.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, str]


MUTATIONS = (
    Mutation(
        "a number of a deleted version is given again",
        "versions.py",
        'number = int(kept.version_id or "0") + 1',
        "number = len(self.of(name)) + 1",
        ("test_models.py", "never_given_twice"),
    ),
    Mutation(
        "the first version is not the default",
        "versions.py",
        "if first and DEFAULT not in wanted:",
        "if DEFAULT in wanted:",
        ("test_models.py", "first_version"),
    ),
    Mutation(
        "an alias stays where it was",
        "versions.py",
        "if other is not version and kept != list(other.version_aliases):",
        "if other is version and kept != list(other.version_aliases):",
        ("test_models.py", "aliases_move"),
    ),
    Mutation(
        "nobody inherits the default",
        "versions.py",
        "if left and DEFAULT in version.version_aliases:",
        "if left and not version.version_aliases:",
        ("test_models.py", "default_is_inherited"),
    ),
    Mutation(
        "the default is taken away",
        "models.py",
        "if DEFAULT in removing:",
        "if removing == [DEFAULT, DEFAULT]:",
        ("test_models_refused.py", "no_such_aliases"),
    ),
    Mutation(
        "any alias is fine",
        "rules.py",
        "if not _ALIAS.fullmatch(alias):",
        "if not alias:",
        ("test_models_refused.py", "aliases"),
    ),
    Mutation(
        "an alias means nothing",
        "versions.py",
        "if wanted in version.version_aliases:",
        "if wanted == DEFAULT and wanted in version.version_aliases:",
        ("test_models.py", "test_get"),
    ),
    Mutation(
        "names never have their version",
        "versions.py",
        "        if versioned:\n",
        "        if versioned is None:\n",
        ("test_models.py", "test_get"),
    ),
    Mutation(
        "names carry the project's id",
        "services.py",
        'f"projects/{place.number}/", 1)\n\n    def _spoil',
        'f"projects/{place.project}/", 1)\n\n    def _spoil',
        ("test_endpoints.py", "test_create"),
    ),
    Mutation(
        "labels of a model are not those of its versions",
        "versions.py",
        "if key not in version.labels:",
        "if key in version.labels:",
        ("test_models.py", "labels_are_merged"),
    ),
    Mutation(
        "a model's update takes a version's fields",
        "models.py",
        "if path in wrong:",
        "if path in () and path in wrong:",
        ("test_models_refused.py", "no_such_update"),
    ),
    Mutation(
        "a stale etag of a model is fine",
        "models.py",
        "if asked.etag and asked.etag != self.registry.etag(version):",
        'if asked.etag == "" and asked.etag != self.registry.etag(version):',
        ("test_models_refused.py", "stale_etag"),
    ),
    Mutation(
        "a stale etag of an endpoint is fine",
        "endpoints.py",
        "if asked.etag and asked.etag != self._etag(endpoint):",
        "if not asked.etag and asked.etag:",
        ("test_endpoints_refused.py", "stale_etag"),
    ),
    Mutation(
        "an etag is for ever",
        "endpoints.py",
        "digest = hashlib.sha256(endpoint.SerializeToString(deterministic=True)).digest()",
        "digest = hashlib.sha256(endpoint.name.encode()).digest()",
        ("test_endpoints.py", "update"),
    ),
    Mutation(
        "an operation is done at once",
        "operations.py",
        "self.polls >= self._world.polls or",
        "True or",
        ("test_operations.py", "polls"),
    ),
    Mutation(
        "a cancelled operation goes on",
        "operations.py",
        "            self._steps.close()\n",
        '            globals().setdefault("kept", []).append(self._steps)\n',
        ("test_deploying.py", "test_cancel"),
    ),
    Mutation(
        "a deployed model keeps the alias",
        "endpoints.py",
        "deployed.model_version_id = version.version_id",
        'deployed.model_version_id = deployed.model.partition("@")[2]',
        ("test_deploying.py", "alias_is_frozen"),
    ),
    Mutation(
        "a split may name anybody",
        "splits.py",
        "    if unknown:\n",
        '    if unknown == [""]:\n',
        ("test_endpoints_refused.py", "no_such_split"),
    ),
    Mutation(
        "0 is fine where nothing is deployed",
        "splits.py",
        "unknown = sorted(set(split) - set(known))",
        "unknown = sorted(set(split) - set(known) - {NEW})",
        ("test_endpoints_refused.py", "no_such_split or no_such_endpoint"),
    ),
    Mutation(
        "a split sums to anything",
        "splits.py",
        "if split and sum(split.values()) != 100:",
        "if split and sum(split.values()) > 1000:",
        ("test_endpoints_refused.py", "no_such_split"),
    ),
    Mutation(
        "a percentage is any number",
        "splits.py",
        "if not 0 <= percent <= 100:",
        "if not -1000 <= percent <= 1000:",
        ("test_endpoints_refused.py", "no_such_split"),
    ),
    Mutation(
        "0 stays in the split",
        "endpoints.py",
        "{deployed.id if one == NEW else one: part",
        "{one: part",
        ("test_deploying.py", "zero_is_the_new_one"),
    ),
    Mutation(
        "other resources than dedicated ones are fine",
        "endpoints.py",
        'if not asked.HasField("dedicated_resources"):',
        "if not asked.model:",
        ("test_deploying_refused.py", "only_dedicated_resources"),
    ),
    Mutation(
        "any accelerator fits",
        "machines.py",
        "    if not numbers:\n",
        "    if not accelerator:\n",
        ("test_deploying_refused.py", "no_such_machine"),
    ),
    Mutation(
        "any number of accelerators fits",
        "machines.py",
        "    if count not in numbers:\n",
        "    if not count and numbers == []:\n",
        ("test_deploying_refused.py", "no_such_machine"),
    ),
    Mutation(
        "more replicas than the most",
        "resources.py",
        "if most and most < max(1, least):",
        "if most < 0:",
        ("test_deploying_refused.py", "no_such_replicas"),
    ),
    Mutation(
        "zero replicas in v1",
        "resources.py",
        "if least < 0 or (least == 0 and not _scales_to_zero(resources, version)):",
        "if least < 0:",
        ("test_deploying_refused.py", "no_such_replicas or scale_to_zero"),
    ),
    Mutation(
        "any period of scale to zero",
        "resources.py",
        "if not PERIOD_S[0] <= seconds <= PERIOD_S[1]:",
        "if not 0 <= seconds:",
        ("test_deploying_refused.py", "scale_to_zero"),
    ),
    Mutation(
        "a model with traffic is undeployed",
        "endpoints.py",
        "if endpoint.traffic_split.get(one) and others:",
        "if endpoint.traffic_split.get(one) and not one:",
        ("test_deploying.py", "undeploy_with_traffic"),
    ),
    Mutation(
        "the last one keeps the split",
        "endpoints.py",
        "                set_split(now, {})\n",
        "                pass\n",
        ("test_deploying.py", "undeploy_the_last"),
    ),
    Mutation(
        "an undeployed process stays",
        "deployments.py",
        "        if found is not None:\n            found.stop()\n",
        "        if found is None:\n            return\n",
        ("test_deploying.py", "undeployed_processes_end"),
    ),
    Mutation(
        "a prediction without a split",
        "predictions.py",
        "chosen = choose(dict(endpoint.traffic_split))",
        "chosen = choose(dict(endpoint.traffic_split) or {endpoint.deployed_models[0].id: 100})",
        ("test_predictions.py", "no_split"),
    ),
    Mutation(
        "traffic is split evenly",
        "splits.py",
        "[split[one] for one in ids]",
        "[50 for one in ids]",
        ("test_deploying.py", "split_statistics"),
    ),
    Mutation(
        "an endpoint is deleted with what is deployed",
        "endpoints.py",
        "        if ids:\n",
        "        if None in ids:\n",
        ("test_deploying_refused.py", "deployed_models_are_kept or being_deployed"),
    ),
    Mutation(
        "a deployed version is deleted",
        "models.py",
        "        if deployed:\n",
        "        if None in deployed:\n",
        ("test_deploying_refused.py", "being_deployed"),
    ),
    Mutation(
        "the last version is deleted",
        "models.py",
        "if len(self.registry.of(version.name)) == 1:",
        "if not self.registry.of(version.name):",
        ("test_models_refused.py", "last_version"),
    ),
    Mutation(
        "a list has no pages",
        "listing.py",
        "    return chosen[start : start + size], token",
        '    return chosen, ""',
        ("test_endpoints.py", "test_list"),
    ),
    Mutation(
        "a filter lets everything through",
        "listing.py",
        '    terms = _terms(getattr(request, "filter", ""), fields)\n',
        "    terms: list[_Term] = []\n",
        ("test_lists.py", "filter"),
    ),
    Mutation(
        "a read mask lets everything through",
        "masks.py",
        '    if not mask.paths or list(mask.paths) == ["*"]:\n',
        "    if True:\n",
        ("test_endpoints.py", "test_list"),
    ),
    Mutation(
        "everything is mutable",
        "endpointrules.py",
        "if path not in _MUTABLE and path != _LOGGING[version]:",
        "if not path:",
        ("test_deploying_refused.py", "no_such_mutation"),
    ),
    Mutation(
        "an update changes what it should not",
        "endpointrules.py",
        'if path.partition(".")[0] not in _UPDATABLE:',
        "if not path:",
        ("test_endpoints_refused.py", "no_such_update"),
    ),
    Mutation(
        "artifacts are not copied",
        "managed.py",
        "if name.startswith(under):",
        "if name.startswith(under) and not name:",
        ("test_deploying.py", "artifacts_never_change"),
    ),
    Mutation(
        "a copy's artifacts are forgotten",
        "models.py",
        "                managed.keep(self.world, kept, name, made.version_id, place.location)\n",
        "",
        ("test_deploying.py", "another_region"),
    ),
    Mutation(
        "a container's own AIP_MODE wins",
        "deployments.py",
        "return {**{k: _expanded(v, known) for k, v in own.items()}, **given, **extra}",
        "return {**given, **{k: _expanded(v, known) for k, v in own.items()}, **extra}",
        ("test_deploying.py", "everything_is_in"),
    ),
    Mutation(
        "an accelerator is not told",
        "deployments.py",
        "    if machine.accelerator_type:\n",
        "    if not machine.machine_type:\n",
        ("test_deploying.py", "everything_is_in"),
    ),
    Mutation(
        "health is not looked at again",
        "deployments.py",
        "        misses=MISSES,\n",
        "        misses=1_000_000,\n",
        ("test_deploying.py", "test_health"),
    ),
    Mutation(
        "nobody asks whether the port is open",
        "deployments.py",
        "        live_s=LIVE_S,\n",
        "        live_s=None,\n",
        ("test_deploying.py", "deaf_port"),
    ),
    Mutation(
        "a large request is fine",
        "predictions.py",
        "        if size > most:\n",
        "        if size < 0:\n",
        ("test_predictions.py", "too_large"),
    ),
    Mutation(
        "a large answer is fine",
        "predictions.py",
        "    if len(body) > most:\n",
        "    if not most:\n",
        ("test_predictions.py", "too_large"),
    ),
    Mutation(
        "whole numbers stay whole",
        "values.py",
        "        return number\n",
        "        return int(number) if number.is_integer() else number\n",
        ("test_predictions.py", "numbers_are_doubles"),
    ),
    Mutation(
        "NaN is an answer",
        "predictions.py",
        "json.loads(body, parse_constant=_no_number)",
        'json.loads(body.replace(b"NaN", b"0"))',
        ("test_predictions.py", "no_predictions"),
    ),
    Mutation(
        "errors are no metric",
        "observing.py",
        'yield {}, "int64Value", sum(one.code >= 400 for one in asked)',
        'yield {}, "int64Value", 0',
        ("test_observing.py", "follow_the_traffic"),
    ),
    Mutation(
        "replicas never come",
        "scaling.py",
        "        if count != group.desired:\n            group.resize(count)\n",
        "        del count\n",
        ("test_scaling.py", "replicas_follow and request_count"),
    ),
    Mutation(
        "replicas never go",
        "scaling.py",
        "        if count != group.desired:\n",
        "        if count > group.desired:\n",
        ("test_scaling.py", "no_time_at_all"),
    ),
    Mutation(
        "zero is for ever",
        "scaling.py",
        "count = count if silent_s <=",
        "count = 0 if silent_s <=",
        ("test_scaling.py", "to_zero_and_back and rest"),
    ),
    Mutation(
        "endpoints are not kept",
        "../emulator.py",
        "            self.endpoints.records,\n",
        "",
        ("test_endpoints_state.py", "test_endpoints and rest"),
    ),
    Mutation(
        "unknown fields are passed over",
        "transcoding.py",
        "            yield path, _unknown(name, path)\n",
        "            continue\n",
        ("test_rest.py", "malformed"),
    ),
    Mutation(
        "another region is fine",
        "services.py",
        "if location and (location not in place.regions",
        'if location and (location in ("",)',
        ("test_endpoints_refused.py", "wrong_region"),
    ),
    Mutation(
        "one replica too many",
        "deployments.py",
        "self._fleet.start(launch, count),",
        "self._fleet.start(launch, count + 1),",
        ("test_deploying.py", "test_replicas"),
    ),
)


def main(words: Sequence[str] | None = None) -> int:
    """Try the mutations that are asked for, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--sample", type=int, metavar="N", help="every so many only")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("word", nargs="*", help="of the names of those to try")
    options = parser.parse_args(words)
    chosen = [
        one for one in MUTATIONS if not options.word or any(w in one.name for w in options.word)
    ][:: options.sample or 1]
    files = {
        file: " or ".join(f"({one.tests[1]})" for one in chosen if one.tests[0] == file)
        for file in sorted({one.tests[0] for one in chosen})
    }
    with ThreadPoolExecutor(options.workers) as pool:
        # What fails of something else notices nothing.
        sound = dict(zip(files, pool.map(is_sound, files.items()), strict=True))
        verdicts = list(pool.map(lambda one: verdict(one, sound=sound[one.tests[0]]), chosen))
    print("| bug | noticed |\n|---|---|")
    for one, said in zip(chosen, verdicts, strict=True):
        print(f"| {one.name} | {said} |")
    noticed = verdicts.count("yes")
    print(f"{noticed} of {len(chosen)} noticed")
    return 0 if noticed == len(chosen) else 1


def is_sound(tests: tuple[str, str]) -> bool:
    """Return whether tests pass without any bug."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy(Path(folder))
        return run(tests, Path(folder)) == 0


def verdict(mutation: Mutation, *, sound: bool) -> str:
    """Return what the table says of a bug; one that cannot be tried does not stop the others."""
    if not sound:
        return "**not tried**: its tests fail without it"
    try:
        return "yes" if is_noticed(mutation) else "**no**"
    except (ValueError, RuntimeError, subprocess.TimeoutExpired) as error:
        return f"**not tried**: {error}"


def is_noticed(mutation: Mutation) -> bool:
    """Return whether the tests fail with a bug in the emulator.

    Raises:
        ValueError: There is no place for it: the code has changed.
        RuntimeError: No test ran.
    """
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy(Path(folder))
        apply(mutation, Path(folder))
        code = run(mutation.tests, Path(folder))
    # 1 are failed tests; anything else but 0 is a run that says nothing.
    if code not in (0, 1):
        raise RuntimeError(f"{mutation.name}: pytest ended with {code}")
    return code == 1


def copy(folder: Path) -> None:
    """Make a copy of the emulator below *folder*."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(EMULATOR, folder / "cloudreg_emulator", ignore=skip)


def apply(mutation: Mutation, folder: Path) -> None:
    """Put the bug into the copy of the emulator below *folder*.

    Raises:
        ValueError: There is no place for it, or more than one.
    """
    file = folder / "cloudreg_emulator" / "google" / "vertex" / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.name}: {mutation.file} has {mutation.old!r} not once")
    file.write_text(text.replace(mutation.old, mutation.new))


def run(tests: tuple[str, str], folder: Path) -> int:
    """Run tests against the copy, and return pytest's exit code."""
    file, words = tests
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0"),
            *("--timeout", "120", str(HERE / "vertex" / file)),
            *(("-k", words) if words else ()),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
