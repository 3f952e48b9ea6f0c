"""`python -m cluster.aws`: check what `ray up` needs on AWS, and make what is missing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fmnist.cli import Flag, command


@dataclass(frozen=True, kw_only=True)
class AwsOptions:
    """Prepare AWS for `ray up ray_cluster.yaml`: check credentials, image and quotas; make the
    bucket, the roles and the token.

    What is there already is kept. Costs nothing by itself. Example: python -m cluster.aws --check
    """

    file: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("ray_cluster.yaml")
    """The cluster file, which names region, instance types and roles."""
    bucket: str | None = None
    """S3 bucket for the runs; by default fmnist-ACCOUNT-REGION."""
    check: Annotated[bool, Flag] = False
    """Only look; make nothing, and exit 2 if something is missing."""


def main(options: AwsOptions) -> None:
    from cluster.aws_account import prepare, read_cluster  # here: boto3 takes a second to import

    prepare(read_cluster(options.file), options.file, options.bucket, only_check=options.check)


if __name__ == "__main__":
    command(AwsOptions, main)
