"""What a cluster file needs of an AWS account: image, quotas, bucket, roles and token."""

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from rich.console import Console

from fmnist.errors import InputError, check

QUOTAS = (
    (r"(g|gr|vt)\d", "L-3819A6DF", "L-DB2E81BA"),
    (r"p[2-4]", "L-7212CCBC", "L-417A185B"),
    (r"p5", "L-C4BD4855", "L-417A185B"),
    (r"[acdhimrtz]\d", "L-34B43A08", "L-1216C47A"),
)
"""Names of instance types as a pattern, and their quotas of vCPUs on spot and on demand."""
ABSENT = ("NoSuchEntity", "NoSuchBucket", "404")
PROPAGATION_S = 15
"""How long EC2 may not know a new instance profile; Ray waits as long after making its own."""
SSM_PREFIX = "resolve:ssm:"
DEFAULT_REGION = "us-east-1"
"""The region in which a bucket has no location constraint."""


@dataclass(frozen=True, slots=True)
class NodeType:
    """A node type of the cluster file that may be launched."""

    name: str
    count: int
    instance: str
    spot: bool
    profile: str
    image: str
    disk_gb: int


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """What the cluster file asks for: the head comes first."""

    region: str
    cluster: str
    nodes: list[NodeType]

    @property
    def head(self) -> NodeType:
        return self.nodes[0]

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=self.region)


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that has to be there."""

    what: str
    there: bool
    make: Callable[[], object]


def read_cluster(file: Path) -> ClusterFile:
    """Read a cluster file.

    Raises:
        InputError: it is not a cluster file for AWS that names image, disk and profile for each
            node type.
    """
    name = f"file={str(file)!r}"
    check(
        file.is_file(),
        f"{name}: no such file; run this in the repository's folder, or name one with --file",
    )
    try:
        config = yaml.safe_load(file.read_text())
        check(config["provider"]["type"] == "aws", f"{name}: its provider is not aws")
        return _parse(config)
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{name}: {type(error).__name__} {error}; compare it with ray_cluster.yaml as it came"
        ) from error


def _parse(config: dict[str, Any]) -> ClusterFile:
    head, most = config["head_node_type"], config["max_workers"]
    nodes: list[NodeType] = []
    for name, described in config["available_node_types"].items():
        node = described["node_config"]
        count = 1
        if name != head:
            count = min(described.get("max_workers", most), most)
        nodes.append(
            NodeType(
                name=name,
                count=count,
                instance=node["InstanceType"],
                spot="InstanceMarketOptions" in node,
                profile=node["IamInstanceProfile"]["Name"],
                image=node["ImageId"],
                disk_gb=node["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"],
            )
        )

    nodes.sort(key=lambda node: node.name != head)
    launched = [node for node in nodes if node.count]
    return ClusterFile(config["provider"]["region"], config["cluster_name"], launched)


@contextmanager
def _clear_errors(cluster: ClusterFile) -> Generator[None]:
    """Raise AWS's refusals as an InputError of one line."""
    try:
        yield
    except NoCredentialsError as error:
        raise InputError(
            "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or run aws configure"
        ) from error
    except ClientError as error:
        refusal = error.response["Error"]
        raise InputError(
            f"AWS refuses {error.operation_name} in {cluster.region}: "
            f"{refusal.get('Message')} ({refusal['Code']})"
        ) from error
    except BotoCoreError as error:
        raise InputError(f"AWS in {cluster.region}: {error}") from error


def prepare(cluster: ClusterFile, file: Path, bucket: str | None, *, only_check: bool) -> None:
    """Show what is there and what is not, and make that.

    Args:
        bucket: for the runs; by default fmnist-ACCOUNT-REGION.
        only_check: make nothing.

    Raises:
        InputError: AWS refuses, a quota or a disk is too small, or, where nothing is to be made,
            something is missing.
    """
    with _clear_errors(cluster):
        _prepare(cluster, file, bucket, only_check)


def _prepare(cluster: ClusterFile, file: Path, bucket: str | None, only_check: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    caller = cluster.client("sts").get_caller_identity()
    console.print(f"account {caller['Account']} in {cluster.region}, as {caller['Arn']}")
    check_image(cluster, console)
    check_quotas(cluster, console)

    bucket = bucket or f"fmnist-{caller['Account']}-{cluster.region}"
    pieces = [
        _bucket(cluster, bucket),
        *_roles(cluster, bucket, caller),
        *_spot_role(cluster),
        _token(),
    ]
    missing = [piece for piece in pieces if not piece.there]
    absent = "missing" if only_check else "to be made"
    for piece in pieces:
        console.print(f"{piece.what}: {'there' if piece.there else absent}")
    if only_check:
        check(not missing, "something is missing; make it with: python -m cluster.aws")

    for piece in missing:
        piece.make()
    if any(piece.what.startswith("role") for piece in missing):
        console.print(f"EC2 gets to know the new roles: {PROPAGATION_S} s")
        time.sleep(PROPAGATION_S)
    console.print(f"next: ray up {file}; and for every job: --storage s3://{bucket}/runs")


def check_image(cluster: ClusterFile, console: Console) -> None:
    """Raise InputError unless the images exist in the region and fit on the disks."""
    for name in dict.fromkeys(node.image for node in cluster.nodes):
        image_id = name
        if name.startswith(SSM_PREFIX):
            parameter = name.removeprefix(SSM_PREFIX)
            answer = cluster.client("ssm").get_parameter(Name=parameter)
            image_id = answer["Parameter"]["Value"]

        image = cluster.client("ec2").describe_images(ImageIds=[image_id])["Images"][0]
        console.print(f"image: {image_id}, {image['Name']}")
        disks = [disk["Ebs"] for disk in image["BlockDeviceMappings"] if "Ebs" in disk]
        size = max((disk.get("VolumeSize", 0) for disk in disks), default=0)
        for node in cluster.nodes:
            check(
                node.disk_gb >= size,
                f"{node.name}: VolumeSize={node.disk_gb} is too small for the image of {size} GB; "
                "raise it",
            )


def check_quotas(cluster: ClusterFile, console: Console) -> None:
    """Raise InputError where a quota has no room for one machine of a node type.

    Where it has room for some but not for all, say so.
    """
    types = [node.instance for node in cluster.nodes]
    answer = cluster.client("ec2").describe_instance_types(InstanceTypes=types)
    vcpus: dict[str, int] = {}
    for described in answer["InstanceTypes"]:
        vcpus[described["InstanceType"]] = described["VCpuInfo"]["DefaultVCpus"]
    for node in cluster.nodes:
        _check_quota(cluster, node, vcpus[node.instance], console)


def _check_quota(cluster: ClusterFile, node: NodeType, each: int, console: Console) -> None:
    """Check the quota of one node type, of which every machine takes `each` vCPUs."""
    market = "on spot" if node.spot else "on demand"
    wanted = node.count * each
    line = f"{node.name}: {node.count} × {node.instance} {market}, {wanted} vCPUs"
    code = quota_code(node.instance, node.spot)
    if code is None:
        console.print(f"{line}; its quota is not known here: look it up in AWS's Service Quotas")
        return

    quotas = cluster.client("service-quotas")
    answer = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)
    quota = int(answer["Quota"]["Value"])
    check(
        quota >= each,
        f"{node.name}: your quota {code} in {cluster.region} is {quota} vCPUs, "
        f"and one {node.instance} {market} takes {each}; ask for more: "
        f"aws service-quotas request-service-quota-increase --region {cluster.region} "
        f"--service-code ec2 --quota-code {code} --desired-value {wanted}",
    )
    short = ""
    if quota < wanted:
        short = f": room for {quota // each} of {node.count}, and the cluster grows no further"
    console.print(f"{line}, of a quota of {quota}{short}")


def quota_code(instance: str, spot: bool) -> str | None:
    """The quota of vCPUs that an instance type counts against; None if it is not known."""
    for pattern, on_spot, on_demand in QUOTAS:
        if re.match(pattern, instance):
            return on_spot if spot else on_demand
    return None


def policy(
    cluster: ClusterFile, node: NodeType, bucket: str, caller: dict[str, str]
) -> dict[str, Any]:
    """IAM policy of a node.

    Every node reads and writes the bucket; the head also launches workers, and ends those of its
    own cluster.
    """
    partition = caller["Arn"].split(":")[1]  # aws, aws-cn or aws-us-gov

    def allow(actions: list[str], *resources: str) -> dict[str, Any]:
        named = [one if one == "*" else f"arn:{partition}:{one}" for one in resources]
        return {"Effect": "Allow", "Action": actions, "Resource": named}

    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    statements = [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], f"s3:::{bucket}"),
        allow(objects, f"s3:::{bucket}/*"),
    ]
    if node is cluster.head:
        account = caller["Account"]
        profiles = {worker.profile for worker in cluster.nodes[1:]}
        workers = sorted(f"iam::{account}:role/{profile}" for profile in profiles)
        own = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": cluster.cluster}}
        life = ["ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances"]
        statements += [
            allow(["ec2:Describe*", "ec2:RunInstances", "ec2:CreateTags"], "*"),
            allow(life, "*") | {"Condition": own},
            # RunInstances looks the image up in its caller's name.
            allow(["ssm:GetParameters"], "ssm:*::parameter/aws/service/*"),
            allow(["iam:PassRole"], *workers),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def _roles(cluster: ClusterFile, bucket: str, caller: dict[str, str]) -> list[Piece]:
    """A role and an instance profile of the same name for each kind of node."""
    # Reversed, so that a profile that head and workers share is the head's.
    by_profile = {node.profile: node for node in reversed(cluster.nodes)}
    pieces: list[Piece] = []
    for profile, node in by_profile.items():
        document = policy(cluster, node, bucket, caller)
        pieces.append(_role(cluster, profile, bucket, document))
    return pieces


def _role(cluster: ClusterFile, name: str, bucket: str, document: dict[str, Any]) -> Piece:
    iam = cluster.client("iam")
    ec2 = {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    trust = json.dumps({"Version": "2012-10-17", "Statement": [ec2]})

    def make() -> None:
        """Each step may have been done by a call that was interrupted."""
        exists = iam.exceptions.EntityAlreadyExistsException
        with suppress(exists):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName=name, PolicyName=bucket, PolicyDocument=json.dumps(document))
        with suppress(exists):
            iam.create_instance_profile(InstanceProfileName=name)
        with suppress(iam.exceptions.LimitExceededException):  # a profile has room for one role
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)

    profile = _or_none(lambda: iam.get_instance_profile(InstanceProfileName=name))
    written = _or_none(lambda: iam.get_role_policy(RoleName=name, PolicyName=bucket))
    has_role = profile is not None and bool(profile["InstanceProfile"]["Roles"])
    same = written is not None and written["PolicyDocument"] == document
    return Piece(f"role {name}", has_role and same, make)


def _spot_role(cluster: ClusterFile) -> list[Piece]:
    """EC2's own role for spot instances, made with the first of them: the head may not make it."""
    if not any(node.spot for node in cluster.nodes):
        return []
    iam = cluster.client("iam")
    service = "spot.amazonaws.com"
    roles = iam.list_roles(PathPrefix=f"/aws-service-role/{service}/")["Roles"]

    def make() -> None:
        iam.create_service_linked_role(AWSServiceName=service)

    return [Piece("role of EC2 for spot instances", bool(roles), make)]


def _bucket(cluster: ClusterFile, bucket: str) -> Piece:
    s3 = cluster.client("s3")
    location: dict[str, Any] = {}
    if cluster.region != DEFAULT_REGION:
        location = {"CreateBucketConfiguration": {"LocationConstraint": cluster.region}}
    try:
        head = _or_none(lambda: s3.head_bucket(Bucket=bucket))
    except ClientError as error:
        if error.response["Error"]["Code"] != "403":
            raise
        raise InputError(
            f"bucket={bucket!r}: somebody else's, or closed to you; name another with --bucket"
        ) from error

    def make() -> None:
        s3.create_bucket(Bucket=bucket, **location)

    return Piece(f"bucket s3://{bucket}", head is not None, make)


def _token() -> Piece:
    """The cluster's token.

    Ray's own `get-auth-token --generate` leaves a file that every user of the machine may read.
    """
    file = Path.home() / ".ray" / "auth_token"

    def make() -> None:
        file.parent.mkdir(exist_ok=True)
        with open(file, "x", opener=_for_owner_alone) as opened:
            opened.write(secrets.token_hex(32))

    return Piece(f"token {file}", file.exists(), make)


def _for_owner_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _or_none(get: Callable[[], Any]) -> Any:
    """What `get` returns, or None if AWS has no such thing."""
    try:
        return get()
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            return None
        raise
