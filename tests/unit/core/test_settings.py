"""What is configured: where it comes from, what beats what, and where it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloudreg.errors import ConfigError
from cloudreg.settings import OTHER_VARIABLES, find, load
from cloudreg.types import Resources, RolloutStrategy, Scaling, ScalingMetric, ScalingStep

LIVE = '[endpoints.live]\nmodel = "churn"\nstage = "prod"\n'


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Begin without any variable of ours."""
    for name in list(os.environ):
        if name.upper().startswith("CLOUDREG_"):
            monkeypatch.delenv(name)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Load a configuration with variables around it."""

    def loaded(text="", *, overrides=None, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        path = tmp_path / "cloudreg.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, overrides=overrides)

    return loaded


def test_defaults(read):
    """An empty file is a laptop with three stages."""
    settings = read()
    assert settings.home == "local"
    assert settings.order == ("dev", "staging", "prod")
    assert settings.targets["local"].provider == "local"
    assert settings.stage_targets("prod") == ("local",)
    assert settings.models == settings.endpoints == {}


def kinds(settings, model, stage):
    return [table["kind"] for _, table in settings.gate_tables(model, stage)]


def test_default_gates(read):
    """Without gates of its own, a stage has those that suit its place; two are always there."""
    settings = read()
    assert kinds(settings, "churn", "dev") == ["stage_order"]
    assert kinds(settings, "churn", "staging") == ["stage_order", "format", "signature"]
    assert kinds(settings, "churn", "prod") == [
        "stage_order",
        "format",
        "signature",
        "lineage",
        "card",
    ]


def test_own_gates(read):
    """A stage's gates replace the usual ones, also by none; a model's come on top."""
    settings = read(
        "[stages.dev]\n[stages.staging]\ngates = []\n"
        '[stages.prod]\n[[stages.prod.gates]]\nkind = "metric"\nname = "auc"\n'
        '[[models.churn.gates.staging]]\nkind = "golden"\n'
    )
    assert kinds(settings, "churn", "staging") == ["stage_order", "format", "golden"]
    assert kinds(settings, "other", "staging") == ["stage_order", "format"]
    assert kinds(settings, "churn", "prod") == ["stage_order", "format", "metric"]
    places = [place for place, _ in settings.gate_tables("churn", "staging")]
    assert places == [
        ("the order of stages",),
        ("the format policy",),
        ("models", "churn", "gates", "staging", 0),
    ]
    assert settings.gate_tables("churn", "prod")[2] == (
        ("stages", "prod", "gates", 0), {"kind": "metric", "name": "auc"})  # fmt: skip


def test_order_of_stages(read):
    """Stages stand in the order of the file, whatever variables and arguments add to them."""
    text = "[stages.qa]\n[stages.canary]\n[stages.live]\n"
    settings = read(
        text,
        CLOUDREG_STAGES__LIVE__APPROVALS="2",
        overrides={"stages": {"canary": {"approvals": 1}}},
    )
    assert settings.order == ("qa", "canary", "live")
    assert [settings.stages[s].approvals for s in settings.order] == [0, 1, 2]


def test_precedence(read):
    """Arguments beat variables, variables the file, and the file the defaults."""
    file = "".join(f"[targets.{name}]\nprovider = 'local'\n" for name in "abc")
    assert read(f"home = 'a'\n{file}").home == "a"
    assert read(f"home = 'a'\n{file}", CLOUDREG_HOME="b").home == "b"
    assert read(f"home = 'a'\n{file}", overrides={"home": "c"}).home == "c"


def test_precedence_of_one_key(read):
    """Sources are merged key by key: what one says of a table leaves the rest alone."""
    settings = read(
        LIVE + "min_replicas = 1\nmax_replicas = 9\nconcurrency = 2.0\n",
        CLOUDREG_ENDPOINTS__LIVE__MIN_REPLICAS="2",
        CLOUDREG_ENDPOINTS__LIVE__MAX_REPLICAS="3",
        overrides={"endpoints": {"live": {"max_replicas": 4}}},
    )
    endpoint = settings.endpoints["live"]
    assert (endpoint.min_replicas, endpoint.max_replicas, endpoint.concurrency) == (2, 4, 2.0)


def test_share_of_a_pool(read):
    """What a replica takes of a shared machine is of its resources, and the pool of the spec."""
    endpoint = read(LIVE + "pool = 'shared'\nmemory_mib = 2048\ncpus = 1.5\n").endpoints["live"]
    assert (endpoint.pool, endpoint.resources) == ("shared", Resources(memory_mib=2048, cpus=1.5))


def test_what_replicas_follow(read):
    """One metric with its target, steps, cooldowns and GPUs to fall back to are one noun each."""
    endpoint = read(
        LIVE + "gpu = 'L4:2'\ngpu_fallback = ['A10G', 'T4']\nmax_replicas = 5\n"
        "gpu_utilization = 60\nscale_out_cooldown_s = 30\n"
        "scaling_steps = [{from = 70, add = 1}, {from = 90, add = 3}]\n"
    ).endpoints["live"]
    assert endpoint.scaling == Scaling(
        min_replicas=1,
        max_replicas=5,
        metric=ScalingMetric.GPU_UTILIZATION,
        target=60.0,
        steps=(ScalingStep(at=70.0, add=1), ScalingStep(at=90.0, add=3)),
        scale_out_cooldown_s=30.0,
    )
    assert endpoint.resources == Resources(
        accelerator="L4", accelerator_count=2, fallback=("A10G", "T4")
    )


@pytest.mark.parametrize("source", ["variable", "argument"])
def test_one_stage_of_the_default_ones(read, source):
    """Saying something of one default stage does not make the others go away."""
    if source == "variable":
        settings = read(CLOUDREG_STAGES__PROD__APPROVALS="2", CLOUDREG_TARGETS__LOCAL__ROOT="x")
    else:
        settings = read(
            overrides={"stages": {"prod": {"approvals": 2}}, "targets": {"local": {"root": "x"}}}
        )
    assert settings.order == ("dev", "staging", "prod")
    assert settings.stages["prod"].approvals == 2
    assert settings.targets["local"].options == {"root": "x"}


def test_json_in_a_variable(read):
    """A table or a list in a variable is JSON, and keeps the case of its keys."""
    settings = read(
        LIVE,
        CLOUDREG_STAGES__PROD__GATES='[{"kind": "card"}]',
        CLOUDREG_ENDPOINTS__LIVE__ENV='{"LOG_LEVEL": "debug"}',
        CLOUDREG_ENDPOINTS__LIVE__ROLLOUT='{"strategy": "canary", "steps": [5, 100]}',
    )
    assert kinds(settings, "churn", "prod") == ["stage_order", "format", "card"]
    assert settings.endpoints["live"].env == {"LOG_LEVEL": "debug"}
    assert settings.endpoints["live"].rollout.noun().steps == (5, 100)


def test_names_with_hyphens(read):
    """A variable that a shell cannot export still works; one that it can names something else."""
    text = LIVE.replace("live", "churn-prod")
    name = "CLOUDREG_ENDPOINTS__CHURN-PROD__MIN_REPLICAS"
    assert read(text, **{name: "2"}).endpoints["churn-prod"].min_replicas == 2
    with pytest.raises(
        ConfigError, match="CLOUDREG_ENDPOINTS__CHURN_PROD__MIN_REPLICAS"
    ) as refused:
        read(text, CLOUDREG_ENDPOINTS__CHURN_PROD__MIN_REPLICAS="2")
    assert "hyphen" in refused.value.hint


def test_case_of_a_variable(read):
    """A model server's variable whose case would be lost is refused with a way that keeps it."""
    with pytest.raises(ConfigError, match="case") as refused:
        read(LIVE, CLOUDREG_ENDPOINTS__LIVE__ENV__LOG_LEVEL="debug")
    assert refused.value.hint.startswith("CLOUDREG_ENDPOINTS__LIVE__ENV='{")


@pytest.mark.parametrize(
    "name",
    ["CLOUDREG_HOM", "CLOUDREG_STAGE__PROD__APPROVALS", "cloudreg_hom", "CLOUDREG_",
     "CLOUDREG_HOME__X", "CLOUDREG_STATE__X", "CLOUDREG_MODEL__X", "CLOUDREG_CONFIG__X"],
)  # fmt: skip
def test_unknown_variable(read, name):
    """A variable that nothing would read is refused by its name."""
    with pytest.raises(ConfigError, match=f"environment variable {name}"):
        read(**{name: "x"})


@pytest.mark.parametrize("name", sorted(OTHER_VARIABLES))
def test_other_variables(read, name):
    """Variables of the command line and the model server are none of the settings' business."""
    assert read(**{f"CLOUDREG_{name}": "x"}).home == "local"


SYNTAX = [
    (b"home = ", 1, 8),
    (b"home = 'local\n", 1, 14),
    (b"[targets\n", 1, 9),
    (b"[a]\n[a]\n", 2, 3),
    (b"home = 'a'\nhome = 'b'\n", 2, 11),
    (b"[stages.dev]\n\napprovals 3\n", 3, 11),
    (b"x = [1,\n2", 2, 2),
]


@pytest.mark.parametrize(("text", "line", "column"), SYNTAX)
def test_syntax(read, text, line, column):
    """A file that is no TOML is refused with line and column."""
    with pytest.raises(
        ConfigError, match=rf"^cloudreg\.toml, line {line}, column {column}: "
    ) as refused:
        read(text)
    assert "(at " not in str(refused.value)


WRONG = {
    # text: (line, column, what the message names)
    "hom = 'local'\n": (1, 1, "unknown key 'hom'"),
    "\n\n  [target.local]\n": (3, 3, "unknown key 'target'"),
    "[stages.dev]\n[stages.prod]\napprovas = 1\n": (3, 1, "unknown key 'approvas'"),
    "[models.churn]\nowner = 'x'\n": (2, 1, "unknown key 'owner'"),
    LIVE + "replicas = 3\n": (4, 1, "unknown key 'replicas'"),
    LIVE + "[endpoints.live.rollout]\nstep = [100]\n": (5, 1, "unknown key 'step'"),
    LIVE + "rollout = {strategy = 'canary', bake = 3}\n": (4, 1, "unknown key 'bake'"),
    LIVE + "rollout.bake = 3\n": (4, 1, "unknown key 'bake'"),
    "home = 5\n": (1, 1, "valid string"),
    "stages = 3\n": (1, 1, "valid dictionary"),
    "[stages]\n": (1, 1, "at least one stage"),
    "[stages.dev]\napprovals = -1\n": (2, 1, "greater than or equal to 0"),
    "[stages.dev]\napprovals = 'many'\n": (2, 1, "valid integer"),
    "[stages.dev]\ntargets = 'local'\n": (2, 1, "valid tuple"),
    "[stages.dev]\ngates = ['card']\n": (2, 1, "valid dictionary"),
    "[targets.local]\nroot = 'x'\n": (1, 1, "'provider' is missing"),
    "[endpoints.live]\nmodel = 'churn'\n": (1, 1, "'stage' is missing"),
    LIVE + "min_replicas = 1.5\n": (4, 1, "valid integer"),
    LIVE + "min_replicas = -1\n": (4, 1, "replicas -1"),
    LIVE + "min_replicas = 3\nmax_replicas = 2\n": (4, 1, "replicas 3 to 2"),
    LIVE + "concurrency = nan\n": (1, 1, "concurrency"),
    LIVE + "gpu = 'l4'\n": (4, 1, "such as L4"),
    LIVE + "gpu_fallback = ['T4']\n": (1, 1, "no GPU to fall back from"),
    LIVE + "gpu = 'L4'\ngpu_fallback = 'T4'\n": (5, 1, "valid tuple"),
    LIVE + "max_replicas = 2\ngpu_utilization = 60\n": (5, 1, "no GPU to measure"),
    LIVE + "gpu = 'L4'\ngpu_utilization = 60\n": (5, 1, "fixed at 1"),
    LIVE + "scaling_steps = [{from = 9, add = 1}]\n": (4, 1, "fixed at 1"),
    LIVE + "concurrency = 4\ncpu_utilization = 60\n": (1, 1, "follows one"),
    LIVE + "memory_mib = 0\n": (1, 1, "memory_mib 0"),
    LIVE + "max_replicas = 2\nscaling_steps = [{at = 9, add = 1}]\n": (5, 1, "from"),
    LIVE + "rollout = {strategy = 'blue'}\n": (4, 1, "strategy"),
    LIVE + "[endpoints.live.rollout]\nsteps = [10, 100]\n": (4, 1, "all_at_once"),
    LIVE + "[endpoints.live.rollout]\nbake_s = nan\n": (4, 1, "bake_s"),
    LIVE + "[endpoints.live.env]\nA = 3\n": (5, 1, "valid string"),
    LIVE + '[endpoints.live.env]\n"A=B" = "x"\n': (4, 1, "'A=B'"),
    # names that cannot be, and names that lead nowhere
    "home = 'cloud'\n": (1, 1, "no target 'cloud'"),
    "[targets.My-Cloud]\nprovider = 'local'\n": (1, 1, "target name"),
    "[stages.Prod]\n": (1, 1, "stage name"),
    "[stages.p]\n": (1, 1, "too short"),
    "[models.Churn]\n": (1, 1, "model name"),
    '[endpoints."a.b"]\nmodel = "churn"\nstage = "prod"\n': (1, 1, "endpoint name"),
    LIVE.replace("churn", "../x"): (2, 1, "model name"),
    LIVE.replace("prod", "production"): (3, 1, "no stage 'production'"),
    LIVE + "target = 'cloud'\n": (4, 1, "no target 'cloud'"),
    "[stages.dev]\ntargets = ['cloud']\n": (2, 1, "no target 'cloud'"),
    "[stages.dev]\ntargets = ['local', 'local']\n": (2, 1, "twice"),
    "[targets.local]\nprovider='local'\n[targets.b]\nprovider='local'\n"
    "[stages.dev]\ntargets = ['b']\n": (6, 1, "the home, 'local'"),
    "[models.churn.gates]\nlive = []\n": (2, 1, "no stage 'live'"),
    # what would be silently ignored, since nothing stands before the first stage
    "[stages.dev]\napprovals = 1\n[stages.prod]\n": (2, 1, "nothing can stand before it"),
    "[stages.dev]\n\n[[stages.dev.gates]]\nkind = 'card'\n": (3, 1, "nothing can stand before it"),
    "[[stages.prod.gates]]\nkind = 'card'\n": (1, 1, "nothing can stand before it"),
    "[models.churn.gates]\ndev = [{kind = 'card'}]\n": (2, 1, "nothing can stand before it"),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=lambda t: t.strip().splitlines()[-1])
def test_wrong(read, text):
    """A key or a value that cannot be is refused with the line and the column where it stands."""
    line, column, said = WRONG[text]
    with pytest.raises(ConfigError) as refused:
        read(text)
    message = refused.value.message
    assert message.startswith(f"cloudreg.toml, line {line}, column {column}, "), message
    assert said in message
    assert refused.value.exit_code == 64


def test_hints(read):
    """An unknown key comes with those that are known, and an unknown name with those there are."""
    with pytest.raises(ConfigError) as refused:
        read("[stages.dev]\napproval = 1\n")
    assert refused.value.hint == "known are targets, approvals, signed_by, commit, gates"
    with pytest.raises(ConfigError) as refused:
        read(LIVE.replace("prod", "live"))
    assert refused.value.hint == "there are dev, staging, prod"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CLOUDREG_HOME": "cloud"}, "CLOUDREG_HOME: no target 'cloud'"),
        ({"cloudreg_home": "cloud"}, "cloudreg_home: no target 'cloud'"),
        ({"CLOUDREG_STAGES": "foo"}, "CLOUDREG_STAGES: not the JSON"),
        ({"CLOUDREG_STAGES": '{"prod": {"approvals": "x"}}'}, "CLOUDREG_STAGES: approvals"),
        ({"CLOUDREG_STAGES__PROD__APPROVALS": "x"}, "CLOUDREG_STAGES__PROD__APPROVALS: approvals"),
        ({"CLOUDREG_STAGES__PROD__APROVALS": "1"}, "APROVALS: unknown key 'aprovals'"),
        ({"CLOUDREG_STAGES__PROD__GATES": '[{"kind":'}, "CLOUDREG_STAGES__PROD__GATES: gates"),
        ({"CLOUDREG_TARGETS__AWS__REGION": "x"}, "REGION: the key 'provider' is missing"),
    ],
)  # fmt: skip
def test_wrong_variable(read, variables, said):
    """What a variable says wrong is refused by the variable's name."""
    with pytest.raises(ConfigError) as refused:
        read(**variables)
    assert refused.value.message.startswith("environment variable ")
    assert said in refused.value.message


def test_wrong_argument(read):
    """What an argument says wrong is refused as the argument that it is."""
    with pytest.raises(ConfigError, match=r"^argument home: no target 'cloud'"):
        read("home = 'local'\n", overrides={"home": "cloud"})
    with pytest.raises(ConfigError, match=r"^argument hom: unknown key"):
        read(overrides={"hom": "local"})


def test_the_file_is_to_blame(read):
    """Where the file says it wrong, a variable beside it is not blamed."""
    with pytest.raises(ConfigError, match=r"^cloudreg\.toml, line 4, column 1"):
        read(LIVE + "replicas = 1\n", CLOUDREG_ENDPOINTS__LIVE__MIN_REPLICAS="1")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"home = '\xe9'"])
def test_no_text(read, data):
    """A file that is no UTF-8 cannot be read."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read(data)


def test_unreadable(tmp_path):
    """A folder, or nothing, in the place of the file is said so."""
    for path in (tmp_path, tmp_path / "cloudreg.toml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path)


def test_find(tmp_path, monkeypatch):
    """The file of the nearest folder above counts, unless a variable names another."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no cloudreg\.toml") as refused:
        find(inner)
    assert refused.value.hint == "cloudreg init"
    (tmp_path / "cloudreg.toml").touch()
    assert find(inner) == tmp_path / "cloudreg.toml"
    (tmp_path / "a" / "cloudreg.toml").touch()
    assert find(inner) == tmp_path / "a" / "cloudreg.toml"
    monkeypatch.chdir(inner)
    assert find() == tmp_path / "a" / "cloudreg.toml"
    other = tmp_path / "other.toml"
    other.touch()
    monkeypatch.setenv("CLOUDREG_CONFIG", str(other))
    assert find() == other
    assert find(inner) == tmp_path / "a" / "cloudreg.toml"  # an argument beats a variable
    monkeypatch.setenv("CLOUDREG_CONFIG", str(tmp_path))
    with pytest.raises(ConfigError, match="CLOUDREG_CONFIG"):
        find()


def test_endpoint(read):
    """An endpoint's section gives resources, scaling and rollout as nouns."""
    settings = read(
        "[targets.local]\nprovider='local'\n[targets.gpu]\nprovider='local'\n"
        + LIVE
        + "gpu = 'T4:2'\nmachine_type = 'm'\nmin_replicas = 0\ntarget = 'gpu'\n"
        + "[endpoints.live.rollout]\nstrategy = 'linear'\nbake_s = 3\n"
    )
    endpoint = settings.endpoints["live"]
    assert endpoint.resources == Resources.parse("T4:2", machine_type="m")
    assert (endpoint.scaling.min_replicas, endpoint.scaling.max_replicas) == (0, 1)
    assert endpoint.rollout.noun().strategy is RolloutStrategy.LINEAR
    assert endpoint.rollout.noun().steps == (20, 40, 60, 80, 100)
    assert settings.endpoint_target("live") == "gpu"


def test_settings_are_frozen(read):
    """What was read is not changed afterwards."""
    with pytest.raises(ValueError, match="frozen"):
        read().home = "other"


def test_no_other_places(tmp_path, monkeypatch, read):
    """A dotenv file beside the configuration is not one more place where a value can hide."""
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("CLOUDREG_HOME=cloud\n")
    assert read().home == "local"
