"""The client: the data set's own images as they are, others fitted; whole bundles only; no
PyTorch."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.photos import prepare, render
from export.bundle import layout
from export.bundle.integrity import check_bundle
from export.bundle.writer import refresh
from export.client import GOLDEN, MANIFEST, Client, ClientError, pictures_below, print_lines
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split
from fmnist.data.image_file import open_image
from fmnist.data.info import DataInfo
from fmnist.data.picture import Fit, read_pixels
from fmnist.models import build_model
from fmnist.training.checkpoint import Checkpoint, save_checkpoint
from fmnist.training.inference import compute_logits
from tests.conftest import ROOT, Outcome
from tests.pictures import magnetic_resonance, photo_files


@pytest.fixture(scope="module")
def bundle(
    checkpoint: Checkpoint,
    make_bundle: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return make_bundle(tmp_path_factory.mktemp("run") / "export", checkpoint).parent


def test_it_names_the_files_as_the_other_rooms_do() -> None:
    assert (MANIFEST, GOLDEN) == (layout.MANIFEST, layout.GOLDEN)


def test_answers_are_pytorchs(bundle: Path, checkpoint: Checkpoint, official_test: Split) -> None:
    client = Client(bundle)
    images = official_test.images[:100]
    expected = compute_logits(checkpoint.model, images).softmax(1)
    assert np.allclose(client.probabilities(images.numpy()), expected.numpy(), atol=1e-5)

    best = client.top(Image.fromarray(images[0].numpy()))
    assert len(best) == 3
    label, probability = best[0]
    assert label == checkpoint.data.classes[int(expected[0].argmax())]
    assert probability == pytest.approx(float(expected[0].max()), abs=1e-5)


def test_changed_model_is_refused(bundle: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "manifest.json"):
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    content = bytearray((tmp_path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ClientError, match="SHA-256"):
        Client(tmp_path)

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["data"]["fit"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ClientError, match="damaged or an older version's"):
        Client(tmp_path)

    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ClientError, match="not a whole bundle"):
        Client(tmp_path)


def test_check_holds_every_file_and_the_answers(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")

    def checked() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, copy / "client.py", "--check"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    done = checked()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("whole: 4 files; logits of 20 golden samples differ by at most")

    (copy / "MODEL_CARD.md").write_text("the best model there is")
    done = checked()
    assert done.returncode == 2
    assert "MODEL_CARD.md: SHA-256" in done.stderr

    with np.load(bundle / "golden.npz") as arrays:
        golden = dict(arrays)
    golden["logits"][0, 0] += 0.01
    np.savez(copy / "golden.npz", **golden)
    refresh(copy)
    done = checked()
    assert done.returncode == 2
    assert done.stderr.startswith("error: logits of the golden samples differ by up to 1.0e-02")


def test_a_pipe_in_a_folder_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert pictures_below(tmp_path) == ([tmp_path / "gone.png"], [])


def test_names_cannot_break_a_line_or_turn_it(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [("a\nb/\u202e\udce9.png", [("li\nne\x1b[31m", 0.75), ("caf\u00e9", 0.25)])]
    assert print_lines(answers) == 0
    expected = "a\\nb/\\u202e\\udce9.png: li\\nne\\x1b[31m 75.0%, caf\u00e9 25.0%\n"
    assert capsys.readouterr().out == expected


def test_prepared_photos_are_told_and_resized_ones_are_not(
    lenet: Checkpoint, make_bundle: Callable[..., Path], official_test: Split, tmp_path: Path
) -> None:
    client = Client(make_bundle(tmp_path, lenet).parent)
    source = np.random.default_rng(0)
    images, truth = official_test.images[:60].numpy(), official_test.labels[:60].numpy()
    given = [prepare(client, image, render(image, source)) for image in images]
    right: dict[str, float] = {}
    for way in given[0]:
        predicted = client.probabilities(np.stack([each[way] for each in given])).argmax(1)
        right[way] = (predicted == truth).mean()
    assert right["original"] > 0.6
    assert right["prepared"] > right["original"] - 0.15
    assert right["prepared"] > max(right["resized"], right["negated"]) + 0.2


def test_flags_say_what_a_picture_is(
    bundle: Path, official_test: Split, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    photo = render(official_test.images.pixels[1].numpy(), np.random.default_rng(1))
    photo.save(tmp_path / "photo.png")
    client = Client(bundle)
    answers: dict[str, str] = {}
    for flag, choice in {"--photo": True, "--no-photo": False, "--top=3": None}.items():
        top = client.top(photo, photo=choice)
        answers[flag] = ", ".join(f"{label} {probability:.1%}" for label, probability in top)
        done = call("export.predict", tmp_path / "photo.png", "--run", bundle.parent, flag)
        assert (done.code, done.output) == (0, f"{tmp_path / 'photo.png'}: {answers[flag]}\n")

        assert shipped(bundle, flag, tmp_path / "photo.png").stdout == done.output
    assert answers["--photo"] == answers["--top=3"] != answers["--no-photo"]


def test_folders_batches_json_and_heat_maps(
    bundle: Path,
    checkpoint: Checkpoint,
    official_test: Split,
    tmp_path: Path,
    call: Callable[..., Outcome],
) -> None:
    folder = tmp_path / "images/more"
    folder.mkdir(parents=True)
    for number in range(7):
        Image.fromarray(official_test.images.pixels[number].numpy()).save(folder / f"{number}.PNG")
    (folder / "notes.txt").write_text("no image")
    run = bundle.parent
    save_checkpoint(run / "best", checkpoint.model, checkpoint.config, checkpoint.data, {})
    flags = ("--run", run, "--batch", 3, "--explain", tmp_path / "cam.png")
    done = call("export.predict", tmp_path / "images", *flags)
    assert done.code == 0, done.output
    *answers, last = done.output.splitlines()
    files = [str(folder / f"{number}.PNG") for number in range(7)]
    assert [line.split(":")[0] for line in answers] == files
    assert last == f"saved in {tmp_path / 'cam.png'}"
    assert Image.open(tmp_path / "cam.png").size[0] > 300

    listed = shipped(bundle, "--json", folder)
    expected = Client(bundle).probabilities(official_test.images[:7].numpy())
    for number, answer in enumerate(json.loads(listed.stdout)):
        assert answer["image"] == files[number]
        best = answer["top"][0]
        assert best["label"] == checkpoint.data.classes[int(expected[number].argmax())]
        assert best["probability"] == pytest.approx(float(expected[number].max()), abs=1e-6)

    # Nothing is explained where a picture cannot be read.
    (folder / "8.png").write_bytes(b"cut")
    (tmp_path / "cam.png").unlink()
    assert call("export.predict", folder, *flags).code == 2
    assert not (tmp_path / "cam.png").exists()

    (tmp_path / "empty").mkdir()
    done = call("export.predict", tmp_path / "empty", "--run", bundle.parent)
    assert (done.code, "the folder holds no image" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((300, 200), "nothing to be seen but background; show one thing"),
        ((5, 5), "5×5 pixels; at least 8×8"),
    ],
)
def test_photo_of_nothing_is_refused_in_one_line(
    size: tuple[int, int], words: str, bundle: Path, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    path = tmp_path / "blank.png"
    Image.new("RGB", size, "white").save(path)
    done = call("export.predict", path, "--run", bundle.parent, "--photo")
    assert done.code == 2
    assert done.output.startswith(f"error: image='{path}': {words}")
    assert done.output.count("\n") == 1

    alone = shipped(bundle, path, "--photo")
    assert (alone.returncode, alone.stderr) == (2, done.output)


def shipped(bundle: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the client of a bundle, as one does who has nothing else."""
    command = [sys.executable, str(bundle / "client.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=bundle.parent)


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """A folder of five pictures, one of which is cut short."""
    folder = tmp_path / "five"
    folder.mkdir()
    china, flower, hopper = photo_files()
    for name, photo in {"a.jpg": china, "b.jpg": flower, "d.jpg": hopper, "e.jpg": china}.items():
        shutil.copy(photo, folder / name)
    (folder / "c.jpg").write_bytes(flower.read_bytes()[:9000])
    return folder


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_one_bad_picture_takes_no_others_answer_away(bundle: Path, five: Path, batch: int) -> None:
    done = shipped(bundle, five, "--json", "--no-photo", "--batch", batch)
    bad = str(five / "c.jpg")
    message = f"image={bad!r} cannot be read as an image: it is cut short after 9,000 bytes"
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1

    answers = json.loads(done.stdout)
    assert [Path(answer["image"]).name for answer in answers] == [f"{x}.jpg" for x in "abcde"]
    for answer in answers:
        if answer["image"] == bad:
            assert answer["kind"] == "cut short"
            assert answer["error"].startswith(message)
        else:
            expected = Client(bundle).top(open_image(answer["image"], reduce_to=(28, 28)), 3, False)
            found = [(top["label"], top["probability"]) for top in answer["top"]]
            assert [label for label, _ in found] == [label for label, _ in expected]
            assert found[0][1] == pytest.approx(expected[0][1], abs=1e-6)

    done = shipped(bundle, five, "--no-photo", "--batch", batch)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert [Path(line.split(": ")[0]).name for line in lines] == [f"{x}.jpg" for x in "abde"]
    assert done.stderr.startswith(f"error: {message}")


def test_a_folder_of_bad_pictures_alone(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").touch()
    (tmp_path / "bad/b.png").symlink_to(tmp_path / "nowhere.png")
    done = shipped(bundle, tmp_path / "bad", "--json")
    assert done.returncode == 2
    assert [answer["kind"] for answer in json.loads(done.stdout)] == ["empty", "unreadable"]


def test_the_limit_of_pixels_is_a_flag(bundle: Path, five: Path) -> None:
    done = shipped(bundle, five / "a.jpg", "--max-pixels", 1000)
    assert (done.returncode, "raise --max-pixels" in done.stderr) == (2, True)
    assert shipped(bundle, five / "a.jpg", "--max-pixels", 300_000).returncode == 0
    done = shipped(bundle, five / "a.jpg", "--max-pixels", 0)
    assert (done.returncode, "must be at least 1" in done.stderr) == (2, True)


def test_what_is_hidden_or_not_read_in_a_folder_is_left_out(bundle: Path, five: Path) -> None:
    (five / "c.jpg").unlink()
    (five / ".thumbnails").mkdir()
    for name in (".thumbnails/a.jpg", "._a.jpg", "scan.psd", "raw.NEF", "more.psd", "notes.txt"):
        (five / name).write_bytes(b"whatever")
    done = shipped(bundle, five, "--no-photo")
    assert (done.returncode, done.stdout.count("\n")) == (0, 4)
    assert done.stderr == (
        f"note: {five}: 3 pictures are left out, since .nef, .psd cannot be read here\n"
    )


@pytest.mark.parametrize("how", ["pad", "crop", "stretch"])
def test_rectangles_in_colour_are_fitted_as_an_import_does(
    how: str, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    info = DataInfo(
        name="photos",
        classes=("street", "flower", "portrait"),
        sha256={"images-idx4-ubyte": 64 * "0"},
        channels=3,
        image_size=(36, 52),
        fit=how,
        pad_colour="mean",
        pixel_range=(0, 4095),
        label_values=(0, 1, 2),
    )
    config = TrainConfig(widths=(4, 4, 4))
    model = build_model(config, info.problem).eval()
    member = Checkpoint(model, config, info, {"versions": {}})
    bundle = make_bundle(tmp_path / "export", member).parent

    manifest = check_bundle(bundle, "cpu")
    assert manifest["input"][0]["shape"] == ["batch", 3, 36, 52]
    described = {key: manifest["data"][key] for key in ("image_size", "fit", "pad_colour")}
    assert described == {"image_size": [36, 52], "fit": how, "pad_colour": "mean"}
    assert manifest["data"]["pixel_range"] == [0, 4095]
    assert "uint8 pixels (3×36×52)" in (bundle / "MODEL_CARD.md").read_text()

    scan = tmp_path / "scan.png"
    Image.fromarray(magnetic_resonance() * 19).save(scan)
    files = [*photo_files(), scan]
    client = Client(bundle)
    assert client.fit == Fit(36, 52, 3, how, "mean", (0, 4095))
    pixels = np.stack([read_pixels(file, client.fit) for file in files])
    assert pixels.shape == (4, 3, 36, 52)
    assert pixels[3].max() > 200
    expected = client.probabilities(pixels)

    done = shipped(bundle, "--json", *files)
    assert (done.returncode, done.stderr) == (0, "")
    for answer, row in zip(json.loads(done.stdout), expected, strict=True):
        found = {top["label"]: top["probability"] for top in answer["top"]}
        assert list(found.values()) == pytest.approx(sorted(row, reverse=True), abs=1e-6)
        assert list(found) == [label for label, _ in client.likeliest(row, 3)]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds onnxruntime, numpy and Pillow, and what they need."""
    folder = tmp_path_factory.mktemp("bare")
    uv = ROOT / ".venv/bin/uv"
    subprocess.run([uv, "venv", "--quiet", folder], check=True)
    python = folder / "bin/python"
    install = [uv, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, "onnxruntime", "numpy", "pillow"], check=True)
    return python


@pytest.mark.full
def test_predicts_where_there_is_no_pytorch(
    bare_python: Path, bundle: Path, official_test: Split, tmp_path: Path
) -> None:
    image = tmp_path / "boot.png"
    Image.fromarray(official_test.images.pixels[0].numpy()).save(image)
    no_torch = subprocess.run([bare_python, "-c", "import torch"], capture_output=True)
    assert no_torch.returncode != 0

    label, probability = Client(bundle).top(Image.open(image))[0]
    commands: list[list[str | Path]] = [
        [bare_python, "-m", "export.predict", image, "--run", bundle.parent],
        [bare_python, bundle / "client.py", image],
    ]

    def start(words: list[str | Path]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)

    for command in commands:
        done = start(command)
        assert done.returncode == 0, done.stderr
        assert f"{label} {probability:.1%}" in done.stdout

        bad = start([*command, tmp_path / "none.png"])
        assert bad.returncode == 2
        assert bad.stderr.startswith("error: image=")
        assert label in bad.stdout
