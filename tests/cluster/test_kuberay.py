"""kuberay.yaml and the Dockerfile, without Kubernetes: against KubeRay's schemas, and by the
part of Ray that will read them."""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as autoscaling,  # pyright: ignore[reportPrivateUsage]
)

from cluster.connect import AUTOSCALED_GPUS
from tests.conftest import ROOT

CLUSTER, JOB = yaml.safe_load_all((ROOT / "cluster/kuberay.yaml").read_text())
DOCKERFILE = (ROOT / "cluster/Dockerfile").read_text()
CRDS = os.environ.get("KUBERAY_CRDS", "")
"""A folder with ray.io_rayclusters.yaml and ray.io_rayjobs.yaml, as KubeRay publishes them with
each release."""


def some(**fields: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {"type": "object", "properties": fields, "additionalProperties": False}


NUMBER, TEXT, POD = (
    {"type": "integer", "minimum": 0},
    {"type": "string"},
    {"type": "object", "required": ["spec"]},
)
TEXTS = {"type": "object", "additionalProperties": TEXT}
GROUP = {"rayStartParams": TEXTS, "resources": TEXTS, "template": POD}
SCALED = {"groupName": TEXT, "replicas": NUMBER, "minReplicas": NUMBER, "maxReplicas": NUMBER}
# What we use of KubeRay's own fields (ray.io/v1, the same from 1.5.1 to 1.7.0); the API server
# drops others in silence.
FIELDS = {
    "RayCluster": some(
        rayVersion=TEXT,
        authOptions=some(mode={"enum": ["disabled", "token"]}),
        enableInTreeAutoscaling={"type": "boolean"},
        autoscalerOptions=some(idleTimeoutSeconds=NUMBER),
        headGroupSpec=some(**GROUP),
        workerGroupSpecs={"type": "array", "items": some(**GROUP, **SCALED)},
    ),
    "RayJob": some(clusterSelector=TEXTS, entrypoint=TEXT),
}


@pytest.mark.parametrize("document", [CLUSTER, JOB], ids=lambda document: document["kind"])
def test_kuberay_knows_every_field(document: dict[str, Any]) -> None:
    assert document["apiVersion"] == "ray.io/v1"
    jsonschema.validate(document["spec"], FIELDS[document["kind"]])


@pytest.mark.full
@pytest.mark.skipif(
    not CRDS, reason="KUBERAY_CRDS names no folder with KubeRay's published schemas"
)
@pytest.mark.parametrize("document", [CLUSTER, JOB], ids=lambda document: document["kind"])
def test_the_published_schema_takes_it_whole(document: dict[str, Any]) -> None:
    """With the pods' own fields, and strictly: the schema itself lets unknown fields pass, to be
    dropped."""
    published = yaml.safe_load(
        (Path(CRDS) / f"ray.io_{document['kind'].lower()}s.yaml").read_text()
    )
    version = next(version for version in published["spec"]["versions"] if version["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = TEXTS
    assert not list(jsonschema.Draft202012Validator(strict(schema)).iter_errors(document))


def strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if (
        "properties" in closed
        and isinstance(closed["properties"], dict)
        and closed.get("type") == "object"
    ):
        closed.setdefault("additionalProperties", False)
    return closed


def test_the_autoscaler_of_ray_reads_it() -> None:
    """The very function that the autoscaler calls in the head's pod; it also holds the outcome
    to Ray's schema."""
    config = autoscaling(CLUSTER | {"metadata": CLUSTER["metadata"] | {"namespace": "default"}})
    head, gpu = (config["available_node_types"][name] for name in ("headgroup", "gpu"))
    assert head["resources"]["driver"] > 100
    assert head["resources"][AUTOSCALED_GPUS] == 4
    assert "GPU" not in head["resources"]
    assert (gpu["resources"]["CPU"], gpu["resources"]["GPU"]) == (4, 1)
    assert (gpu["min_workers"], gpu["max_workers"], config["idle_timeout_minutes"]) == (0, 4, 5)


def test_cluster_job_and_lock_agree() -> None:
    assert (
        CLUSTER["spec"]["rayVersion"] == ray.__version__
    )  # the operator judges by it whether there can be a token
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}
    assert JOB["spec"]["clusterSelector"] == {"ray.io/cluster": CLUSTER["metadata"]["name"]}
    assert JOB["spec"]["entrypoint"].startswith(
        "python -m tune.search --preset gpu --address auto --storage s3://"
    )


def test_the_image_has_every_room_and_no_root() -> None:
    copied = {
        word for line in re.findall("^COPY (.*)", DOCKERFILE, re.M) for word in line.split()[1:-1]
    }
    assert {
        "Makefile",
        "requirements.lock",
        "cluster/install.sh",
        "fmnist",
        "cluster",
        "tune",
        "export",
    } == copied
    assert all((ROOT / path).exists() for path in copied)
    user = re.findall(r"^USER (\d+)$", DOCKERFILE, re.M)[-1]
    groups = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": int(user)}
    assert (
        len({json.dumps(group["template"]["spec"]["containers"][0]["image"]) for group in groups})
        == 1
    )
