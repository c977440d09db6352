"""Every verb with its summary and an example: what ``--help`` shows, and where verbs are found."""

from __future__ import annotations

from typing import NamedTuple

EXIT_CODES = {
    0: "done",
    1: "it could not be done",
    2: "changes are pending",
    3: "a gate failed",
    4: "an approval, a repair or a decision is needed",
    5: "drift",
    64: "usage: the words, a name or the configuration cannot be right",
    70: "a bug of cloudreg",
    130: "interrupted",
}
"""What a command can end with."""


class Verb(NamedTuple):
    """One verb.

    Attributes:
        room: The heading that it stands under.
        summary: One line.
        example: One line that can be typed.
        codes: Exit codes beside 0, 1 and 64.
    """

    room: str
    summary: str
    example: str
    codes: tuple[int, ...] = ()


BEGIN = "Begin"
VERSIONS = "Versions"
STAGES = "Stages"
ENDPOINTS = "Endpoints"
TRUTH = "What somebody changed behind cloudreg's back"
TERRAFORM = "Beside Terraform"
REQUESTS = "Requests"

VERBS: dict[str, Verb] = {
    "init": Verb(BEGIN, "write a commented cloudreg.toml", "cloudreg init --model churn"),
    "doctor": Verb(BEGIN, "check configuration, targets, ledger and server", "cloudreg doctor"),
    "config": Verb(
        BEGIN, "print every value with what set it", "cloudreg config explain targets.aws"
    ),
    "providers": Verb(BEGIN, "show what each provider can do", "cloudreg providers"),
    "register": Verb(
        VERSIONS,
        "store a model's files as a new version",
        "cloudreg register churn build/model --metric val_auc=0.91 --data train.csv",
    ),
    "list": Verb(VERSIONS, "list models, or the versions of one", "cloudreg list churn"),
    "show": Verb(VERSIONS, "show everything about a version", "cloudreg show churn@prod"),
    "compare": Verb(VERSIONS, "put two versions side by side", "cloudreg compare churn:6 churn:7"),
    "card": Verb(VERSIONS, "print a version's model card", "cloudreg card churn:7 --out card.md"),
    "download": Verb(
        VERSIONS, "fetch a version's files, checked", "cloudreg download churn@prod build/prod"
    ),
    "sign": Verb(
        VERSIONS, "sign a version with a private key", "cloudreg sign churn:7 --key release.key"
    ),
    "verify": Verb(
        VERSIONS,
        "check a version's bytes, and who signed it",
        "cloudreg verify churn@prod --key keys/release.pub",
        (4,),
    ),
    "promote": Verb(
        STAGES,
        "move a version into a stage, through its gates",
        "cloudreg promote churn:7 --to staging",
        (2, 3, 4),
    ),
    "approve": Verb(
        STAGES,
        "agree that a version may enter a stage",
        'cloudreg approve churn:7 --stage prod --reason "checked on the spring cohort"',
    ),
    "waive": Verb(
        STAGES,
        "answer for files that a stage refuses, for some time",
        'cloudreg waive churn:7 --format pickle --stage prod --reason "until it is converted"',
    ),
    "rollback": Verb(
        STAGES,
        "bring a stage back to an earlier version, at once",
        "cloudreg rollback churn prod",
        (2, 4),
    ),
    "history": Verb(
        STAGES, "tell who did what, and check the ledger", "cloudreg history churn --verify"
    ),
    "plan": Verb(ENDPOINTS, "show what apply would change", "cloudreg plan --out churn.plan", (2,)),
    "apply": Verb(
        ENDPOINTS, "make endpoints as they are configured", "cloudreg apply churn.plan", (4,)
    ),
    "down": Verb(ENDPOINTS, "remove endpoints; models stay", "cloudreg down churn-staging --yes"),
    "touch": Verb(ENDPOINTS, "let the ttl of endpoints begin anew", "cloudreg touch churn-staging"),
    "cost": Verb(ENDPOINTS, "show what the configured endpoints cost", "cloudreg cost"),
    "status": Verb(ENDPOINTS, "show what runs where", "cloudreg status churn"),
    "rollout": Verb(
        ENDPOINTS,
        "look at a rollout on its way: status, pause, resume, abort",
        "cloudreg rollout resume churn --next-step",
        (4,),
    ),
    "drift": Verb(TRUTH, "find what differs from the ledger", "cloudreg drift churn", (5,)),
    "repair": Verb(TRUTH, "make targets show what the ledger says", "cloudreg repair churn"),
    "adopt": Verb(
        TRUTH,
        "take what a target shows as the truth",
        'cloudreg adopt churn --reason "moved in the console during the outage"',
    ),
    "tf": Verb(
        TERRAFORM,
        "write variables and import blocks, check a plan of Terraform's",
        "cloudreg tf check plan.json",
        (3,),
    ),
    "predict": Verb(
        REQUESTS,
        "send a request to an endpoint",
        """cloudreg predict churn-staging '{"instances": [[1, 2, 3]]}'""",
    ),
    "batch": Verb(
        REQUESTS,
        "score a data set by a version",
        "cloudreg batch churn@prod --input data.jsonl --output out",
    ),
    "logs": Verb(
        REQUESTS, "print what model servers wrote", "cloudreg logs churn-staging --lines 20"
    ),
    "serve": Verb(
        REQUESTS,
        "run a model server here, in the foreground",
        "cloudreg serve churn:7 --port 8080",
    ),
    "emulate": Verb(
        REQUESTS,
        "run an emulated cloud here, or a command inside one",
        "cloudreg emulate -- pytest tests/deploy",
    ),
}
"""All verbs, in the order of ``--help``."""


def help_text() -> str:
    """Return what ``cloudreg --help`` prints."""
    lines = [
        "usage: cloudreg VERB [ARGUMENT …] [OPTION …]",
        "",
        "One model registry and one stage model, mapped onto the registries of the clouds.",
    ]
    room = ""
    for name, verb in VERBS.items():
        if verb.room != room:
            room = verb.room
            lines += ["", f"{room}:"]
        lines += [f"  {name:<10}{verb.summary}", f"            $ {verb.example}"]
    lines += [
        "",
        "With every verb:",
        "  --config FILE   the cloudreg.toml; the nearest one above this folder without",
        "  --json          print the facts as JSON, errors too",
        "  --terraform FILE  what terraform output -json printed; - for standard input",
        "  --as ACTOR      who is asking, for the ledger; CLOUDREG_ACTOR without",
        "  --quiet         print no news, only answers and errors",
        "  --help          show a verb's arguments and exit codes",
        "",
        "References: churn:7 (a number), churn@prod (a stage), churn@sha256:… (a digest).",
        f"Exit codes: {'; '.join(f'{c} {EXIT_CODES[c]}' for c in (0, 2, 3, 4, 5, 64, 1))}.",
    ]
    return "\n".join(lines)
