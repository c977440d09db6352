"""MLServer's runtime for one of the models; `bench_server` writes the settings beside it."""

from __future__ import annotations

import os

import net
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    """V2 JSON in and out, through MLServer's own NumPy codec."""

    async def load(self) -> bool:
        self._net = net.build(os.environ["BENCH_MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        with torch.inference_mode():
            y = self._net(torch.from_numpy(x)).numpy()
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="y", payload=y)]
        )
