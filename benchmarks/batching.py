"""LitServe around the pipeline of `benchmarks.baselines`: up to `MAX_BATCH` requests at a time."""

from typing import Any

import litserve
from fastapi.responses import Response

from benchmarks.baselines import Ask, Painter

MAX_BATCH, BATCH_TIMEOUT_S = 8, 0.02


class Batching(litserve.LitAPI):
    """The pipeline takes those of one sampler, step count and scale in one call."""

    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
        self.folder = folder

    def setup(self, device: str) -> None:
        self.painter = Painter(self.folder)

    def decode_request(self, request: dict[str, Any], **_: Any) -> Ask:
        return Ask(**request)

    def batch(self, inputs: list[Ask]) -> list[Ask]:
        return inputs

    def predict(self, inputs: list[Ask], **_: Any) -> list[bytes]:
        return self.painter.paint(inputs)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes, **_: Any) -> Response:
        return Response(output, media_type="image/png")


def serve_litserve(folder: str, port: int) -> None:
    server = litserve.LitServer(Batching(folder), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
