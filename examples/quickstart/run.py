"""The main job, offline: train, register, promote, deploy, roll out, refuse, roll back.

$ python examples/quickstart/run.py                      # what `make demo` runs
$ python examples/quickstart/run.py --keep               # leaves the endpoints running
$ python examples/quickstart/run.py --target sagemaker   # the same on an emulated AWS
$ python examples/quickstart/run.py --target vertex      # and on an emulated Google Cloud

Everything after the training is what one would type: each command is shown before it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CODE = ("digits.py", "train.py", "cloudreg.toml")

CLOUDREG = (sys.executable, "-m", "cloudreg")

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudreg-serving:1-cu124"

SAGEMAKER = f"""home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "quickstart-models"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "{IMAGE}"

"""
"""What stands in ``cloudreg.toml`` in place of the local target."""

REGION = "us-central1"
VERTEX_IMAGE = f"{REGION}-docker.pkg.dev/emulated-project/serve/cloudreg-serving:1"

VERTEX = f"""home = "gcp"

[targets.gcp]
provider = "vertex"
project = "emulated-project"
location = "{REGION}"
bucket = "quickstart-models"
image = "{VERTEX_IMAGE}"

"""

CLOUDS = {"sagemaker": ("aws", IMAGE), "vertex": ("google", VERTEX_IMAGE)}
"""Target to the cloud that is emulated for it, and the image that stands for the model server."""

INSIDE = "QUICKSTART_INSIDE"
"""Set where the emulated cloud is there already."""

Ask = Callable[[bytes], tuple[bytes, str]]

TOLERANCE = 1e-5
"""Largest difference allowed between an endpoint's scores and torch's own.

float32 has a precision of 6e-8; the order in which a batch's sums are taken moves the last
digits of a probability by some 1e-7. A hundred times that is still far from any other answer.
"""


def main() -> int:
    """Run all steps, and leave nothing running."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / ".demo")
    parser.add_argument("--keep", action="store_true", help="leave the endpoints running")
    parser.add_argument("--target", choices=["local", *CLOUDS], default="local")
    options = parser.parse_args()
    if options.target in CLOUDS and INSIDE not in os.environ:
        # Once more, inside an emulated cloud in which a second takes a twentieth of one.
        cloud, image = CLOUDS[options.target]
        server = f"{image}={sys.executable} -P -m cloudreg.serving --exit-with-parent"
        inside = ["emulate", "--cloud", cloud, "--scale", "0.05", "--image", server]
        words = [*CLOUDREG, *inside, "--", sys.executable, *sys.argv]
        return subprocess.call(words, env={**os.environ, INSIDE: options.target})
    demo = Demo(options.folder.resolve(), target=options.target)
    began = time.monotonic()
    demo.prepare()
    try:
        demo.first_version()
        demo.better_version()
        demo.worse_version()
        demo.back_again()
    finally:
        if not options.keep:
            demo.title("Leave nothing behind")
            demo.cloudreg("down", "--yes")
    print(f"\nDone in {time.monotonic() - began:.0f} s. The ledger is kept: {demo.folder.name}/")
    return 0


class Demo:
    """A user's project in a folder of its own."""

    def __init__(self, folder: Path, *, target: str) -> None:
        self.folder = folder
        self.target = target

    def prepare(self) -> None:
        """Make the project: code and configuration under version control, and the data."""
        self.title("A project of one's own: code, configuration, data")
        if (self.folder / "cloudreg.toml").exists():
            self.cloudreg("down", "--yes")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for name in CODE:
            shutil.copy(HERE / name, self.folder)
        if self.target == "sagemaker":
            self.move_to_sagemaker()
        elif self.target == "vertex":
            self.move_to_vertex()
        (self.folder / ".gitignore").write_text(".cloudreg/\nbuild/\ndata/\n__pycache__/\n")
        me = ("-c", "user.name=quickstart", "-c", "user.email=quickstart@example.com")
        for command in (("init", "-q"), ("add", "."), (*me, "commit", "-qm", "Digits")):
            subprocess.run(("git", *command), cwd=self.folder, check=True)
        self.python("train.py", "--data", "data")

    def move_to_sagemaker(self) -> None:
        """Let the same project live on SageMaker: another target, another GPU, and a bucket."""
        import boto3

        boto3.client("s3").create_bucket(Bucket="quickstart-models")
        path = self.folder / "cloudreg.toml"
        text = path.read_text()
        local = text[text.index("home =") : text.index("# Stages")]
        path.write_text(text.replace(local, SAGEMAKER).replace('gpu = "L4"', 'gpu = "A10G"'))

    def move_to_vertex(self) -> None:
        """Let the same project live on Vertex AI: another target, other GPUs, and a bucket."""
        from google.cloud import storage

        storage.Client(project="emulated-project").create_bucket(
            "quickstart-models", location=REGION
        )
        path = self.folder / "cloudreg.toml"
        text = path.read_text()
        local = text[text.index("home =") : text.index("# Stages")]
        text = text.replace(local, VERTEX).replace("concurrency = 8", "gpu_utilization = 60")
        path.write_text(text.replace('stage = "staging"\n', 'stage = "staging"\ngpu = "T4"\n'))

    def first_version(self) -> None:
        """Train, register, promote to production, deploy, predict."""
        self.title("1. Train a first version and register it")
        self.train("build/v1", "--hidden", "12", "--epochs", "60")
        self.register("build/v1")
        self.cloudreg("show", "digits:1")

        self.title("2. Promote it through the gates: dev -> staging -> prod")
        self.cloudreg("promote", "digits:1", "--to", "staging")
        self.cloudreg("promote", "digits@staging", "--to", "prod")

        self.title("3. Ask the endpoint, and compare its answers with torch's own")
        self.compare_with_torch("build/v1")

    def better_version(self) -> None:
        """Register a better version, look at the plan, roll it out under load."""
        self.title("4. A better version: plan first, then a canary with requests flowing")
        self.train("build/v2", "--hidden", "48", "--epochs", "150")
        self.register("build/v2")
        self.cloudreg("compare", "digits:1", "digits:2")
        self.cloudreg("promote", "digits:2", "--to", "staging")
        self.cloudreg("promote", "digits@staging", "--to", "prod", "--dry-run", code=2)
        with Load(self.asking("digits-prod"), self.instances()) as load:
            self.cloudreg("promote", "digits@staging", "--to", "prod")
        print(f"   requests during the rollout: {load}")
        if load.failed:
            raise SystemExit("a request was lost")

    def worse_version(self) -> None:
        """Register a version whose own numbers are fine and whose answers are not."""
        self.title("5. A worse version: its metrics look good, the golden samples say otherwise")
        self.train("build/v3", "--hidden", "48", "--epochs", "150", "--inverted")
        self.register("build/v3")
        self.cloudreg("promote", "digits:3", "--to", "staging", code=3)

    def back_again(self) -> None:
        """Roll back, and show what the ledger knows."""
        self.title("6. Back to the version before, at once; then the record of it all")
        self.cloudreg("rollback", "digits", "prod", "--reason", "the quickstart is over")
        self.cloudreg("status")
        self.cloudreg("history", "digits", "--verify")

    def train(self, folder: str, *options: str) -> None:
        """Run the training script."""
        self.python("train.py", folder, *options)

    def python(self, *arguments: str) -> None:
        """Run a script of the project."""
        self.run(sys.executable, *arguments, show=" ".join(("python", *arguments)))

    def register(self, folder: str) -> None:
        """Register what was trained, with where it comes from."""
        self.cloudreg("register", "digits", folder, "--data", "data/train.csv", "--seed", "7")

    def compare_with_torch(self, folder: str) -> None:
        """Send the golden images, and compare the scores with the model's own.

        Raises:
            SystemExit: They differ by more than `TOLERANCE`.
        """
        script = (
            "import json, sys, torch, train\n"
            "from safetensors.torch import load_file\n"
            "model = train.build(12)\n"
            f"model.load_state_dict(load_file('{folder}/model.safetensors'))\n"
            "with torch.inference_mode():\n"
            "    scores = model(torch.tensor(json.load(sys.stdin)))['scores']\n"
            "print(json.dumps(scores.tolist()))"
        )
        images = self.instances()
        own = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.folder,
            input=json.dumps(images),
            capture_output=True,
            text=True,
            check=True,
        )
        body = json.dumps({"instances": images}).encode()
        answer = json.loads(self.asking("digits-prod")(body)[0])["predictions"]
        wanted = json.loads(own.stdout)
        worst = max(
            abs(a - b)
            for got, row in zip(answer, wanted, strict=True)
            for a, b in zip(got["scores"], row, strict=True)
        )
        print(f"   {len(images)} images, largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
        if worst > TOLERANCE:
            raise SystemExit("the endpoint does not answer as torch does")

    def instances(self) -> list[list[float]]:
        """Return the golden images."""
        lines = (self.folder / "data" / "golden.jsonl").read_text().splitlines()
        return [json.loads(line)["instance"] for line in lines]

    def asking(self, endpoint: str) -> Ask:
        """Return how somebody who knows nothing of cloudreg asks the endpoint.

        It returns the answer, and the name of the variant that gave it.
        """
        if self.target == "sagemaker":
            import boto3

            runtime = boto3.client("sagemaker-runtime")

            def invoke(body: bytes) -> tuple[bytes, str]:
                answer = runtime.invoke_endpoint(
                    EndpointName=endpoint, ContentType="application/json", Body=body
                )
                return answer["Body"].read(), answer["InvokedProductionVariant"]

            return invoke
        if self.target == "vertex":
            return asking_vertex(endpoint)
        url = self.url(endpoint)

        def post(body: bytes) -> tuple[bytes, str]:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read(), answer.headers.get("X-Cloudreg-Variant", "?")

        return post

    def url(self, endpoint: str) -> str:
        """Return where requests go."""
        told = subprocess.run(
            [*CLOUDREG, "status", "--json"],
            cwd=self.folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for row in json.loads(told.stdout)["stages"]:
            for found in row["endpoints"]:
                if found["name"] == endpoint:
                    return str(found["url"])
        raise SystemExit(f"no endpoint {endpoint}")

    def cloudreg(self, *arguments: str, code: int = 0) -> None:
        """Run the command line, and expect its exit code."""
        shown = " ".join(f"'{a}'" if " " in a else a for a in arguments)
        self.run(*CLOUDREG, *arguments, show=f"cloudreg {shown}", code=code)

    def run(self, *command: str, show: str, code: int = 0) -> None:
        """Run a command in the project's folder.

        Raises:
            SystemExit: It ends with another exit code than *code*.
        """
        print(f"\n$ {show}", flush=True)
        done = subprocess.run(command, cwd=self.folder, check=False)
        if code:
            print(f"   (exit code {done.returncode})", flush=True)
        if done.returncode != code:
            raise SystemExit(f"{show}: exit code {done.returncode}, {code} was expected")

    @staticmethod
    def title(text: str) -> None:
        """Print a heading."""
        print(f"\n== {text}", flush=True)


def asking_vertex(endpoint: str) -> Ask:
    """Return how the SDK asks an endpoint of the emulated Vertex AI."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform_v1 import PredictionServiceClient
    from google.protobuf import json_format, struct_pb2

    client = PredictionServiceClient(
        credentials=AnonymousCredentials(),
        transport="rest",
        client_options={"api_endpoint": os.environ["VERTEX_EMULATOR_HOST"]},
    )
    name = client.endpoint_path("emulated-project", REGION, endpoint)

    def predict(body: bytes) -> tuple[bytes, str]:
        instances = json_format.ParseDict(json.loads(body)["instances"], struct_pb2.ListValue())
        answer = client.predict(endpoint=name, instances=list(instances.values))
        said = json_format.MessageToDict(type(answer).pb(answer))
        return json.dumps(said).encode(), f"version {answer.model_version_id}"

    return predict


class Load:
    """One request after another from two threads, for as long as the block lasts."""

    def __init__(self, ask: Ask, images: list[list[float]]) -> None:
        self.failed = 0
        self.answers: Counter[str] = Counter()
        self._ask = ask
        self._bodies = [json.dumps({"instances": [image]}).encode() for image in images]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def __str__(self) -> str:
        by = ", ".join(f"{count} by {name}" for name, count in sorted(self.answers.items()))
        return f"{self.answers.total()} answered ({by}), {self.failed} lost"

    def _send(self) -> None:
        for turn in range(1_000_000):
            if self._over.wait(0.01):
                return
            try:
                _, variant = self._ask(self._bodies[turn % len(self._bodies)])
                self.answers[variant] += 1
            except Exception as error:  # whatever a client raises is a lost request
                print(f"   lost: {error}")
                self.failed += 1


if __name__ == "__main__":
    sys.exit(main())
