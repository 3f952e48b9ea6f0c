"""Small data sets in MNIST's file format, and damage to files."""

import gzip
from pathlib import Path

import torch

from fmnist.data.dataset import Split
from tests.conftest import write_split


def write_small_set(folder: Path, train: Split, classes: int = 3) -> Split:
    """Write the first 40 images as training and test set, labelled 0, 1, 2, 0, …"""
    split = Split(train.images[:40], torch.arange(40) % classes)
    write_split(folder, "train", split)
    write_split(folder, "t10k", split)
    return split


def flip_a_bit(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content), 1))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100000])


def swap(path: Path) -> None:
    """Exchange a test file with the training file of its kind."""
    other = path.with_name(path.name.replace("t10k", "train"))
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)
