"""The names by which makers of data sets call their splits."""

import re

from fmnist.data.importing.item import SplitName

WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "t10k": "test",
    "holdout": "test",
    # FER2013's words, by Kaggle: its public leaderboard was for selection, its private one final.
    "publictest": "validation",
    "privatetest": "test",
}
NO_WORD = re.compile(r"[^a-z0-9]+")


def find_split(word: str) -> SplitName | None:
    """The split that the whole of a word names, in any case: "Training" is "train"."""
    return WORDS.get(NO_WORD.sub("", word.lower()))


def split_of_file(*names: str) -> SplitName | None:
    """The split that a part of a name names: "fashion-mnist_test.csv" is "test".

    Args:
        names: a file's name, then those of the folders above it; the first that names one counts.
    """
    for name in names:
        for word in NO_WORD.split(name.lower()):
            if word in WORDS:
                return WORDS[word]
    return None
