"""ResNet-18 (He et al., 2015) with a stem for 28×28 images: one 3×3 convolution of stride 1 and no pooling."""

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.config import TrainConfig
from fmnist.errors import check


class BasicBlock(nn.Module):
    """conv3×3-BN-ReLU-conv3×3-BN plus the identity, or a 1×1-BN shortcut where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:  # (B, channels_in, H, W) -> (B, channels_out, H / stride, W / stride)
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of basic blocks; each stage after the first halves the map (28, 14, 7, 4)."""

    def __init__(self, depths: tuple[int, ...], widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        channels = widths[0]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for block in range(depth):
                blocks.append(BasicBlock(channels, width, stride=2 if stage > 0 and block == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, 1, 28, 28) -> (B, classes)
        return self.head(self.pool(self.blocks(self.stem(images))).flatten(1))


def build_resnet18(config: TrainConfig, classes: int) -> nn.Module:
    widths = config.widths or (64, 128, 256, 512)
    check(len(widths) == 4, f"widths={widths}: resnet18 takes four, one per stage, such as 16 32 64 128")
    return ResNet((2, 2, 2, 2), widths, classes)
