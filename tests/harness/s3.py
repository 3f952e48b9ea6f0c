"""moto's S3 server in this process, which can be made to fail."""

import http.client
import io
import json
import logging
import re
import threading
from typing import Any, Self

import torch

AWS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}


class S3:
    """moto's S3 server, which can be made to answer 503."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        inner = DomainDispatcherApplication(create_backend_app)
        self.failing = False

        def app(environ: Any, start_response: Any) -> Any:
            if self.failing:
                start_response("503 Slow Down", [("Content-Type", "text/plain")])
                return [b"slow down"]
            return inner(environ, start_response)

        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.prefix = f"fmnist{self.server.server_port}"  # the process has one S3, whatever the number of servers
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.call("PUT", "/runs")

    def call(self, method: str, path: str) -> bytes:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        connection.request(
            method, path, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"}
        )
        return connection.getresponse().read()

    def journal(self) -> list[dict[str, Any]]:
        """Trials of the search that are done, as far as the bucket knows."""
        found = self.call("GET", f"/runs/{self.prefix}/run/search/trials.jsonl")
        return [] if found.startswith(b"<") else [json.loads(line) for line in found.splitlines()]

    def trial_states(self) -> dict[int, int]:
        """Epochs done, by trial, as saved in the bucket."""
        listed = self.call("GET", f"/runs?list-type=2&prefix={self.prefix}/run/search/trial_").decode()
        found: dict[int, int] = {}
        for key, number in re.findall(r"<Key>([^<]*/trial_(\d+)/last\.pt)</Key>", listed):
            content = self.call("GET", f"/runs/{key}")
            if not content.startswith(b"<"):  # else it was removed meanwhile, as the trial ended
                found[int(number)] = torch.load(io.BytesIO(content), weights_only=True)["epoch"]
        return found

    @property
    def place(self) -> str:
        return f"s3://runs/{self.prefix}?region=us-east-1&scheme=http&endpoint_override={self.address}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
