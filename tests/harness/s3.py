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
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"}
STATE_KEY = re.compile(r"<Key>([^<]*/trial_(\d+)/last\.pt)</Key>")


class S3:
    """moto's S3 server, which can be made to answer 503."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        inner = DomainDispatcherApplication(create_backend_app)
        self.failing = False
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and range of each request."""
        self.cut_at: int | None = None
        """Bytes after which an answer to a request for a range breaks off."""

        def app(environ: Any, start_response: Any) -> Any:
            wanted = environ.get("HTTP_RANGE", "")
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], wanted))
            # What S3 answers when it is overloaded.
            if self.failing:
                start_response("503 Slow Down", [("Content-Type", "text/plain")])
                return [b"slow down"]
            answer = inner(environ, start_response)
            if self.cut_at is not None and wanted:
                return [b"".join(answer)[: self.cut_at]]
            return answer

        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        # The process has one S3, whatever the number of servers.
        self.prefix = f"fmnist{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.call("PUT", "/runs")

    def call(self, method: str, path: str) -> bytes:
        """Send a request; the body of the answer, XML starting with "<" if it is an error."""
        connection = http.client.HTTPConnection(self.address, timeout=20)
        connection.request(method, path, headers=SIGNED)
        return connection.getresponse().read()

    def done_trials(self) -> list[dict[str, Any]]:
        """Trials of the search that are done, as far as the bucket knows."""
        content = self.call("GET", f"/runs/{self.prefix}/run/search/trials.jsonl")
        if content.startswith(b"<"):
            return []
        return [json.loads(line) for line in content.splitlines()]

    def trial_states(self) -> dict[int, int]:
        """Epochs done, by trial, as saved in the bucket."""
        prefix = f"{self.prefix}/run/search/trial_"
        listed = self.call("GET", f"/runs?list-type=2&prefix={prefix}").decode()
        epochs: dict[int, int] = {}
        for key, number in STATE_KEY.findall(listed):
            content = self.call("GET", f"/runs/{key}")
            # It may have been removed meanwhile, as the trial ended.
            if not content.startswith(b"<"):
                state = torch.load(io.BytesIO(content), weights_only=True)
                epochs[int(number)] = state["epoch"]

        return epochs

    @property
    def place(self) -> str:
        """The place as --storage takes it."""
        query = f"region=us-east-1&scheme=http&endpoint_override={self.address}"
        return f"s3://runs/{self.prefix}?{query}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
