"""LitServe with one of the models: ``python lit.py PORT MODEL ROWS``; one row does not batch."""

import sys

import litserve
import net
import torch

# No annotations on the methods: LitServe makes the request's schema of them.


class Api(litserve.LitAPI):
    """``{"instances"}`` to ``{"predictions"}``, written as LitServe's own examples are."""

    def setup(self, device):
        self.model = net.build(self.name)

    def decode_request(self, request):
        return torch.tensor(request["instances"])

    def predict(self, x):
        with torch.inference_mode():
            return self.model(x)

    def encode_response(self, output):
        return {"predictions": output.tolist()}


class Batched(Api):
    """The same, with requests of several rows joined."""

    def batch(self, inputs):
        self.rows = [len(one) for one in inputs]
        return torch.cat(inputs)

    def unbatch(self, output):
        return list(output.split(self.rows))


def main(port: str, name: str, rows: str) -> None:
    """Serve until the end."""
    if rows == "1":
        api = Api(api_path="/invocations")
    else:
        api = Batched(api_path="/invocations", max_batch_size=int(rows), batch_timeout=0.002)
    api.name = name
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(port), log_level="error", generate_client_file=False
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
