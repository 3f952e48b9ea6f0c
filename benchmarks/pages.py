"""What the pages of several measurements have in common."""

from collections.abc import Mapping


def unmeasured(commands: Mapping[str, str], device: str = "cuda") -> list[str]:
    """What was not measured for want of a GPU, or a CPU (`cpu`), and the command that will."""
    if not commands:
        return []
    where = "a GPU" if device == "cuda" else "a CPU"
    return ["", f"## Not measured yet, for want of {where}", "", *(f"- {what}: `{command}`" for what, command in commands.items())]
