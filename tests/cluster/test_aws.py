"""ray_cluster.yaml and cluster.aws, against moto's server of AWS's protocols: no credentials, no
network."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.core.models import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
from moto.servicequotas.models import ServiceQuotasBackend
from moto.ssm.models import Parameter, ssm_backends
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.aws.utils import client_cache, resource_cache
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_LAUNCH_CONFIG, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

import cluster.aws_account
from cluster.aws import AwsOptions, main
from cluster.aws_account import quota_code
from cluster.connect import AUTOSCALED_GPUS
from fmnist.errors import InputError
from tests.conftest import ROOT, Outcome
from tests.gates import wait_until

CLUSTER = ROOT / "ray_cluster.yaml"
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-with-single-cuda-ubuntu-24.04/latest/ami-id"
REGION = "us-west-2"
BUCKET = f"fmnist-{ACCOUNT}-{REGION}"
Quotas = dict[str, float]


@pytest.fixture
def no_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody without credentials, whose home is empty."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cluster.aws_account, "PROPAGATION_S", 0)


@pytest.fixture
def quotas(monkeypatch: pytest.MonkeyPatch) -> Quotas:
    """The account's quotas: moto has none of EC2's."""
    values = {"L-3819A6DF": 64.0, "L-1216C47A": 5.0}

    def get(self: ServiceQuotasBackend, service_code: str, quota_code: str) -> dict[str, Any]:
        return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": values[quota_code]}

    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", get)
    return values


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an AWS of our own, with the image that AWS publishes."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    parameters: Any = ssm_backends[ACCOUNT][
        REGION
    ]  # by its back door: no caller may write below /aws
    image = next(iter(ec2_backends[ACCOUNT][REGION].amis))
    parameters._parameters[IMAGE] = [
        Parameter(
            ACCOUNT, IMAGE, image, "String", None, None, None, datetime(2026, 7, 17), 1, "text"
        )
    ]
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def aws(
    server: str, no_aws: None, quotas: Quotas, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """That AWS, with neither bucket nor role, and somebody who may do all there."""
    settings = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": "mine",
    }
    for name, value in (settings | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}).items():
        monkeypatch.setenv(name, value)
    for backends in (s3_backends, iam_backends):  # of the whole process: other tests have used them
        backends[ACCOUNT]["aws"].reset()
    yield
    resource_cache.cache_clear()  # Ray's clients, which know this address
    client_cache.cache_clear()


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    config = yaml.safe_load(CLUSTER.read_text())
    change(config)
    file = folder / "edited.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def test_ray_takes_the_cluster_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = prepare_config(yaml.safe_load(CLUSTER.read_text()))
    validate_config(config)
    head, gpu, gpu_x4 = (config["available_node_types"][name] for name in ("head", "gpu", "gpu_x4"))
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["driver"] > 100
    assert head["resources"][AUTOSCALED_GPUS] == 4
    assert (gpu["min_workers"], gpu["max_workers"], gpu_x4["max_workers"]) == (0, 4, 0)
    for worker in (gpu, gpu_x4):
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert (
            worker["node_config"]["IamInstanceProfile"] != head["node_config"]["IamInstanceProfile"]
        )
    starts = [config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    assert all("RAY_AUTH_MODE=token ray start" in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert not any(
        "pip install" in step
        for kind in ("head", "worker")
        for step in config[f"{kind}_setup_commands"]
    )
    for local in config["file_mounts"].values():  # Ray reads whatever is mounted: no folder
        assert local.startswith("~") or (ROOT / local).is_file()


@pytest.mark.usefixtures("aws")
def test_makes_what_is_missing_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = AwsOptions(file=CLUSTER)
    with pytest.raises(InputError, match=r"missing; make it with: python -m cluster\.aws"):
        main(AwsOptions(file=CLUSTER, check=True))
    assert not client("s3").list_buckets()["Buckets"]

    main(options)
    first = capsys.readouterr().out
    assert "gpu: 4 × g6.xlarge on spot, 16 vCPUs, of a quota of 64\n" in first
    assert f"bucket s3://{BUCKET}: to be made" in first
    assert first.endswith(
        f"next: ray up {CLUSTER}; and for every job: --storage s3://{BUCKET}/runs\n"
    )
    assert [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]] == [BUCKET]
    token = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(written := token.read_text()) == 64

    main(AwsOptions(file=CLUSTER, check=True))
    main(options)
    assert "to be made" not in capsys.readouterr().out
    assert token.read_text() == written


@pytest.mark.usefixtures("aws")
def test_each_role_may_do_what_its_nodes_need() -> None:
    main(AwsOptions(file=CLUSTER))
    iam = client("iam")
    allowed: dict[str, dict[str, Any]] = {}
    for role in ("fmnist-head", "fmnist-worker"):
        assert [
            found["RoleName"]
            for found in iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"][
                "Roles"
            ]
        ] == [role]
        document = iam.get_role_policy(RoleName=role, PolicyName=BUCKET)["PolicyDocument"]
        allowed[role] = {
            action: statement
            for statement in document["Statement"]
            for action in statement["Action"]
        }
        assert allowed[role]["s3:PutObject"]["Resource"] == [f"arn:aws:s3:::{BUCKET}/*"]
    assert allowed["fmnist-head"]["iam:PassRole"]["Resource"] == [
        f"arn:aws:iam::{ACCOUNT}:role/fmnist-worker"
    ]
    mine = {
        "StringEquals": {
            "aws:ResourceTag/ray-cluster-name": yaml.safe_load(CLUSTER.read_text())["cluster_name"]
        }
    }
    assert allowed["fmnist-head"]["ec2:TerminateInstances"]["Condition"] == mine
    assert not [action for action in allowed["fmnist-worker"] if not action.startswith("s3:")]


@pytest.mark.usefixtures("aws")
def test_a_second_bucket_and_a_half_made_role(capsys: pytest.CaptureFixture[str]) -> None:
    client("iam").create_role(RoleName="fmnist-head", AssumeRolePolicyDocument="{}")
    main(AwsOptions(file=CLUSTER))
    main(AwsOptions(file=CLUSTER, bucket="fmnist-of-another-name"))
    assert capsys.readouterr().out.endswith("--storage s3://fmnist-of-another-name/runs\n")
    assert set(client("iam").list_role_policies(RoleName="fmnist-worker")["PolicyNames"]) == {
        BUCKET,
        "fmnist-of-another-name",
    }
    main(AwsOptions(file=CLUSTER, check=True))


@pytest.mark.usefixtures("aws")
def test_too_small_a_quota(quotas: Quotas, capsys: pytest.CaptureFixture[str]) -> None:
    quotas["L-3819A6DF"] = 8.0
    main(AwsOptions(file=CLUSTER))
    assert "of a quota of 8: room for 2 of 4" in capsys.readouterr().out
    quotas["L-3819A6DF"] = 0.0
    with pytest.raises(
        InputError,
        match=(
            r"gpu: your quota L-3819A6DF in us-west-2 is 0 vCPUs, and one g6\.xlarge on spot takes"
            r" 4; .* 16$"
        ),
    ):
        main(AwsOptions(file=CLUSTER))


@pytest.mark.parametrize(
    ("instance", "spot", "code"),
    [
        ("g6.xlarge", True, "L-3819A6DF"),
        ("g6e.12xlarge", False, "L-DB2E81BA"),
        ("p4d.24xlarge", True, "L-7212CCBC"),
        ("p5.48xlarge", True, "L-C4BD4855"),
        ("m7i.xlarge", False, "L-1216C47A"),
        ("trn1.2xlarge", True, None),
    ],
)
def test_the_quota_of_an_instance_type(instance: str, spot: bool, code: str | None) -> None:
    assert quota_code(instance, spot) == code


@pytest.mark.usefixtures("aws")
def test_what_does_not_fit_is_told_before_anything_is_made(tmp_path: Path) -> None:
    def gpu(config: dict[str, Any]) -> dict[str, Any]:
        return config["available_node_types"]["gpu"]["node_config"]

    small = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 1}}]
    for change, complaint in (
        (
            lambda config: gpu(config).update(InstanceType="g99.xlarge"),
            "AWS refuses DescribeInstanceTypes in us-west-2: .*g99",
        ),
        (
            lambda config: gpu(config).update(ImageId="resolve:ssm:/aws/none"),
            "AWS refuses GetParameter in us-west-2: .*/aws/none",
        ),
        (
            lambda config: gpu(config).update(BlockDeviceMappings=small),
            "gpu: VolumeSize=1 is too small for the image of",
        ),
        (
            lambda config: gpu(config).pop("IamInstanceProfile"),
            "KeyError 'IamInstanceProfile'; compare it",
        ),
        (lambda config: config["provider"].update(type="local"), "its provider is not aws"),
    ):
        with pytest.raises(InputError, match=complaint):
            main(AwsOptions(file=edited(tmp_path, change)))
    assert not client("s3").list_buckets()["Buckets"]
    with pytest.raises(InputError, match=r"file='none\.yaml': no such file"):
        main(AwsOptions(file=Path("none.yaml")))


@pytest.mark.usefixtures("aws")
def test_a_bucket_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        S3Response, "head_bucket", lambda _: (403, {}, "")
    )  # as AWS does; moto lets everybody in
    with pytest.raises(
        InputError,
        match="bucket='theirs': somebody else's, or closed to you; name another with --bucket",
    ):
        main(AwsOptions(file=CLUSTER, bucket="theirs"))


@pytest.mark.usefixtures("no_aws")
def test_no_credentials_is_one_line(
    call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which has seen credentials
    done = call("cluster.aws", "--file", CLUSTER)
    assert done.code == 2
    assert done.output.startswith("error: no AWS credentials: set AWS_PROFILE")
    assert len(done.output.splitlines()) == 1


@pytest.mark.full
@pytest.mark.usefixtures("aws")
def test_ray_up_launches_the_head_and_the_head_workers(tmp_path: Path) -> None:
    """The real `ray up`, as far as its first try of SSH; then what the head does with the
    configuration it would have got."""
    main(AwsOptions(file=CLUSTER))
    tried = tmp_path / "ssh"
    for name in ("ssh", "rsync"):  # no packet leaves for an address that moto made up
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tried}\nexit 255\n')
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),  # Ray's cache of what it made of the cluster file
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "up", "--yes", str(CLUSTER)]
    with open(tmp_path / "log", "w") as log:
        up = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(lambda: tried.exists() or up.poll() is not None)
        assert tried.exists(), (tmp_path / "log").read_text()
    finally:
        os.killpg(up.pid, signal.SIGKILL)
        up.wait()
    assert "ubuntu@" in tried.read_text()

    head = instances("head")[0]
    assert head["ImageId"] == f"resolve:ssm:{IMAGE}"
    assert head["InstanceType"] == "m7i.xlarge"
    assert head["IamInstanceProfile"]["Arn"].endswith("/fmnist-head")
    assert head.get("InstanceLifecycle") != "spot"
    assert not instances("worker")

    config = json.loads(next(tmp_path.glob("ray-config-*")).read_text())["config"]
    gpu = config["available_node_types"]["gpu"]
    assert (gpu["resources"]["CPU"], gpu["resources"]["GPU"]) == (4, 1)
    tags = {TAG_RAY_NODE_KIND: "worker", TAG_RAY_USER_NODE_TYPE: "gpu", TAG_RAY_LAUNCH_CONFIG: ""}
    AWSNodeProvider(config["provider"], config["cluster_name"]).create_node(
        gpu["node_config"], tags, 1
    )
    worker = instances("worker")[0]
    assert worker["ImageId"] == head["ImageId"]
    assert worker["InstanceType"] == "g6.xlarge"
    assert worker["InstanceLifecycle"] == "spot"
    assert worker["IamInstanceProfile"]["Arn"].endswith("/fmnist-worker")
    assert worker["KeyName"] == head["KeyName"]
    assert worker["SecurityGroups"] == head["SecurityGroups"]


def instances(kind: str) -> list[dict[str, Any]]:
    wanted = [
        {"Name": f"tag:{TAG_RAY_NODE_KIND}", "Values": [kind]},
        {"Name": "tag:ray-cluster-name", "Values": ["fmnist"]},
    ]
    return [
        found
        for reservation in client("ec2").describe_instances(Filters=wanted)["Reservations"]
        for found in reservation["Instances"]
    ]
