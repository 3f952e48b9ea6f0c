"""`python -m cluster.aws`: what `ray up ray_cluster.yaml` needs on AWS, checked, and made where it is missing."""

import json
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import boto3
import tyro
import yaml
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from rich.console import Console

from fmnist.cli import command
from fmnist.errors import InputError, check

QUOTAS = (  # names of instance types, and their quota of vCPUs on spot and on demand
    (r"(g|gr|vt)\d", "L-3819A6DF", "L-DB2E81BA"),
    (r"p[2-4]", "L-7212CCBC", "L-417A185B"),
    (r"p5", "L-C4BD4855", "L-417A185B"),
    (r"[acdhimrtz]\d", "L-34B43A08", "L-1216C47A"),
)
ABSENT = ("NoSuchEntity", "NoSuchBucket", "404")
PROPAGATION_S = 15
"""How long EC2 may not know a new instance profile; Ray waits as long after making its own."""


@dataclass(frozen=True, kw_only=True)
class AwsOptions:
    """Prepare AWS for `ray up ray_cluster.yaml`: check credentials, image and quotas; make the bucket, the roles and the token.

    What is there already is kept. Costs nothing by itself. Example: python -m cluster.aws --check
    """

    file: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("ray_cluster.yaml")
    """The cluster file, which names region, instance types and roles."""
    bucket: str | None = None
    """S3 bucket for the runs; by default fmnist-ACCOUNT-REGION."""
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only look; make nothing, and exit 2 if something is missing."""


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
class Plan:
    """What the cluster file asks for: the head comes first."""

    region: str
    cluster: str
    nodes: list[NodeType]


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that has to be there."""

    what: str
    there: bool
    make: Callable[[], object]


def main(options: AwsOptions) -> None:
    plan = read_plan(options.file)
    try:
        prepare(plan, options)
    except NoCredentialsError as error:
        raise InputError(
            "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run aws configure"
        ) from error
    except ClientError as error:
        told = error.response["Error"]
        raise InputError(f"AWS refuses {error.operation_name} in {plan.region}: {told.get('Message')} ({told['Code']})") from error
    except BotoCoreError as error:
        raise InputError(f"AWS in {plan.region}: {error}") from error


def read_plan(file: Path) -> Plan:
    """Raises InputError if `file` is not a cluster file for AWS that names image, disk and profile for each node type."""
    check(file.is_file(), f"file={str(file)!r}: no such file; run this in the repository's folder, or name one with --file")
    try:
        config = yaml.safe_load(file.read_text())
        check(config["provider"]["type"] == "aws", f"file={str(file)!r}: its provider is not aws")
        head, most = config["head_node_type"], config["max_workers"]
        nodes = [
            NodeType(
                name,
                1 if name == head else min(found.get("max_workers", most), most),
                (node := found["node_config"])["InstanceType"],
                "InstanceMarketOptions" in node,
                node["IamInstanceProfile"]["Name"],
                node["ImageId"],
                node["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"],
            )
            for name, found in config["available_node_types"].items()
        ]
        nodes.sort(key=lambda node: node.name != head)
        return Plan(config["provider"]["region"], config["cluster_name"], [node for node in nodes if node.count])
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"file={str(file)!r}: {type(error).__name__} {error}; compare it with ray_cluster.yaml as it came"
        ) from error


def prepare(plan: Plan, options: AwsOptions) -> None:
    """Show what is there and what is not, and make that."""
    console = Console(highlight=False, soft_wrap=True)
    caller = _client("sts", plan).get_caller_identity()
    console.print(f"account {caller['Account']} in {plan.region}, as {caller['Arn']}")
    check_image(plan, console)
    check_quotas(plan, console)
    bucket = options.bucket or f"fmnist-{caller['Account']}-{plan.region}"
    pieces = [_bucket(plan, bucket), *_roles(plan, bucket, caller), *_spot_role(plan), _token()]
    for piece in pieces:
        console.print(f"{piece.what}: {'there' if piece.there else 'missing' if options.check else 'to be made'}")
    missing = [piece for piece in pieces if not piece.there]
    if options.check:
        check(not missing, "something is missing; make it with: python -m cluster.aws")
    for piece in missing:
        piece.make()
    if any(piece.what.startswith("role") for piece in missing):
        console.print(f"EC2 gets to know the new roles: {PROPAGATION_S} s")
        time.sleep(PROPAGATION_S)
    console.print(f"next: ray up {options.file}; and for every job: --storage s3://{bucket}/runs")


def check_image(plan: Plan, console: Console) -> None:
    """Raise InputError unless the image exists in the region and fits on the disks."""
    for image_id in {node.image: None for node in plan.nodes}:
        if image_id.startswith("resolve:ssm:"):
            parameter = image_id.removeprefix("resolve:ssm:")
            image_id = _client("ssm", plan).get_parameter(Name=parameter)["Parameter"]["Value"]
        image = _client("ec2", plan).describe_images(ImageIds=[image_id])["Images"][0]
        console.print(f"image: {image_id}, {image['Name']}")
        size = max((disk["Ebs"].get("VolumeSize", 0) for disk in image["BlockDeviceMappings"] if "Ebs" in disk), default=0)
        for node in plan.nodes:
            check(node.disk_gb >= size, f"{node.name}: VolumeSize={node.disk_gb} is too small for the image of {size} GB; raise it")


def check_quotas(plan: Plan, console: Console) -> None:
    """Raise InputError where the quota has no room for one machine of a node type; say so where it has not for all."""
    types = [node.instance for node in plan.nodes]
    described = _client("ec2", plan).describe_instance_types(InstanceTypes=types)["InstanceTypes"]
    vcpus = {found["InstanceType"]: found["VCpuInfo"]["DefaultVCpus"] for found in described}
    for node in plan.nodes:
        each, market = vcpus[node.instance], "on spot" if node.spot else "on demand"
        line = f"{node.name}: {node.count} × {node.instance} {market}, {node.count * each} vCPUs"
        code = quota_code(node.instance, node.spot)
        if code is None:
            console.print(f"{line}; its quota is not known here: look it up in AWS's Service Quotas")
            continue
        quota = int(_client("service-quotas", plan).get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"])
        check(
            quota >= each,
            f"{node.name}: your quota {code} in {plan.region} is {quota} vCPUs, and one {node.instance} {market} takes {each}; "
            f"ask for more: aws service-quotas request-service-quota-increase --region {plan.region} --service-code ec2 "
            f"--quota-code {code} --desired-value {node.count * each}",
        )
        short = (
            "" if quota >= node.count * each else f": room for {quota // each} of {node.count}, and the cluster grows no further"
        )
        console.print(f"{line}, of a quota of {quota}{short}")


def quota_code(instance: str, spot: bool) -> str | None:
    """The quota of vCPUs that an instance type counts against."""
    return next((on_spot if spot else on_demand for name, on_spot, on_demand in QUOTAS if re.match(name, instance)), None)


def policy(plan: Plan, node: NodeType, bucket: str, caller: dict[str, str]) -> dict[str, Any]:
    """What a node may do: every node reads and writes the bucket; the head also launches workers, and ends those of its cluster."""
    partition = caller["Arn"].split(":")[1]  # aws, aws-cn or aws-us-gov

    def allow(actions: list[str], *resources: str, **condition: dict[str, str]) -> dict[str, Any]:
        named = [f"arn:{partition}:{resource}" if resource != "*" else resource for resource in resources]
        return {"Effect": "Allow", "Action": actions, "Resource": named} | ({"Condition": condition} if condition else {})

    statements = [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], f"s3:::{bucket}"),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], f"s3:::{bucket}/*"),
    ]
    if node is plan.nodes[0]:
        mine = {"aws:ResourceTag/ray-cluster-name": plan.cluster}
        workers = sorted({f"iam::{caller['Account']}:role/{worker.profile}" for worker in plan.nodes[1:]})
        statements += [
            allow(["ec2:Describe*", "ec2:RunInstances", "ec2:CreateTags"], "*"),
            allow(["ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances"], "*", StringEquals=mine),
            allow(["ssm:GetParameters"], "ssm:*::parameter/aws/service/*"),  # RunInstances looks the image up in its caller's name
            allow(["iam:PassRole"], *workers),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def _roles(plan: Plan, bucket: str, caller: dict[str, str]) -> list[Piece]:
    """A role and an instance profile of the same name for each kind of node."""
    nodes = {node.profile: node for node in reversed(plan.nodes)}  # a profile of head and workers is the head's
    return [_role(plan, name, bucket, policy(plan, node, bucket, caller)) for name, node in nodes.items()]


def _role(plan: Plan, name: str, bucket: str, document: dict[str, Any]) -> Piece:
    iam = _client("iam", plan)
    ec2 = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [ec2]})

    def make() -> None:
        """Each step may have been done by a call that was interrupted."""
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName=name, PolicyName=bucket, PolicyDocument=json.dumps(document))
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_instance_profile(InstanceProfileName=name)
        with suppress(iam.exceptions.LimitExceededException):  # a profile has room for one role
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)

    profile = _found(lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"])
    written = _found(lambda: iam.get_role_policy(RoleName=name, PolicyName=bucket)["PolicyDocument"])
    return Piece(f"role {name}", bool(profile and profile["Roles"]) and written == document, make)


def _spot_role(plan: Plan) -> list[Piece]:
    """The role of EC2's own that an account gets with its first spot instance: the head may not make it."""
    if not any(node.spot for node in plan.nodes):
        return []
    iam, service = _client("iam", plan), "spot.amazonaws.com"
    there = bool(iam.list_roles(PathPrefix=f"/aws-service-role/{service}/")["Roles"])
    return [Piece("role of EC2 for spot instances", there, lambda: iam.create_service_linked_role(AWSServiceName=service))]


def _bucket(plan: Plan, bucket: str) -> Piece:
    s3 = _client("s3", plan)
    there = {} if plan.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": plan.region}}
    try:
        found = _found(lambda: s3.head_bucket(Bucket=bucket))
    except ClientError as error:
        if error.response["Error"]["Code"] != "403":
            raise
        raise InputError(f"bucket={bucket!r}: somebody else's, or closed to you; name another with --bucket") from error
    return Piece(f"bucket s3://{bucket}", found is not None, lambda: s3.create_bucket(Bucket=bucket, **there))


def _token() -> Piece:
    """Ray's own `get-auth-token --generate` leaves a file that every user of the machine may read."""
    file = Path.home() / ".ray" / "auth_token"

    def make() -> None:
        file.parent.mkdir(exist_ok=True)
        with open(file, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
            opened.write(secrets.token_hex(32))

    return Piece(f"token {file}", file.exists(), make)


def _found(get: Callable[[], Any]) -> Any:
    """What `get` returns, or None if AWS has no such thing."""
    try:
        return get()
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            return None
        raise


def _client(service: str, plan: Plan) -> Any:
    return boto3.client(service, region_name=plan.region)


if __name__ == "__main__":
    command(AwsOptions, main)
