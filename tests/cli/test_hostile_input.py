"""Input that means harm, or looks like it: refused with a sentence or handled, in bounded time and memory."""

import json
import pickle
import re
import struct
import zlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Coco, Command, Ended, Train
from tests.cli.test_bad_input import assert_refused, change

SIXTEEN = ("--set", "detector.backbone.widths=[16,16]")
"""Below 16 channels, oneDNN's backward pass of a strided 1x1 convolution writes beyond rows of a thousand cells."""

UNPACKED = 400 * 2**20
"""Bytes that a checkpoint of 2 MB becomes."""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, pixels: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def with_image(data: Path, *, size_wh: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    """Replace the second training image by one of another size."""
    width, height = size_wh
    Image.fromarray(np.full((height, width, 3), 77, dtype=np.uint8)).save(data / "train" / "2.png")

    def edit(coco: Coco) -> None:
        coco["images"][1].update(width=width, height=height)
        coco["annotations"][1].update(bbox=box)

    change(data, edit)


class TestImages:
    @pytest.fixture(params=["pixels", "text"])
    def bomb(self, request: pytest.FixtureRequest) -> bytes:
        """A small file that claims to be huge, or has a comment of 100 MB."""
        if request.param == "pixels":
            return png(50_000, 50_000, pixels=bytes(10**7))
        return png(32, 32, pixels=bytes(32 * 97), extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9)))

    def test_a_decompression_bomb(self, bomb: bytes, train: Train, condetr: Command, data: Path, run: Path) -> None:
        (data / "train" / "2.png").write_bytes(bomb)
        assert_refused(train(data), "2.png", run=run)
        ended = condetr("doctor", data, "--recipe", "conditional_detr_tiny")
        assert ended.code == 1
        assert "1 image missing, truncated or unreadable" in ended.out

    @pytest.mark.parametrize(("size_wh", "box"), [((1, 1), (0, 0, 1, 1)), ((2000, 10), (0, 0, 100, 10))])
    def test_images_of_odd_sizes_are_trained_on(
        self, size_wh: tuple[int, int], box: tuple[int, int, int, int], train: Train, data: Path
    ) -> None:
        with_image(data, size_wh=size_wh, box=box)
        ended = train(data, *SIXTEEN)
        assert ended.code == 0, ended.err

    @pytest.mark.parametrize("size_wh", [(10_000, 10), (1, 1)])
    def test_slivers_are_named_by_the_doctor(self, size_wh: tuple[int, int], condetr: Command, data: Path) -> None:
        with_image(data, size_wh=size_wh, box=(0, 0, 1, 1))
        ended = condetr("doctor", data)
        told = " ".join(ended.out.split())
        assert ended.code == 0
        assert ("1 image so long and narrow" in told) == (size_wh != (1, 1))


class TestAnnotations:
    def test_ten_thousand_boxes_in_an_image_are_trained_on(self, train: Train, data: Path) -> None:
        def edit(coco: Coco) -> None:
            first = coco["annotations"][0]
            places = [(n % 28, n // 28 % 28) for n in range(10_000)]
            coco["annotations"] += [
                {**first, "id": 100 + number, "bbox": [x, y, 3, 3]} for number, (x, y) in enumerate(places)
            ]

        change(data, edit)
        ended = train(data)
        assert ended.code == 0, ended.err

    def test_more_categories_than_can_be_measured(self, train: Train, data: Path, run: Path) -> None:
        change(data, lambda coco: coco["categories"].extend({"id": n, "name": f"c{n}"} for n in range(100, 20_000)))
        assert_refused(train(data), "19,902 categories, condetr takes at most 10,000", run=run)

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e300", "9" * 5000])
    def test_numbers_that_no_box_has(self, number: str, train: Train, data: Path, run: Path) -> None:
        path = data / "annotations" / "train.json"
        path.write_text(path.read_text().replace("[4, 6, 16, 12]", f"[4, {number}, 16, 12]", 1))
        assert_refused(train(data), "train.json", run=run)

    @pytest.mark.parametrize("side", ["NaN", "Infinity", "1e999"])
    def test_numbers_that_no_image_has(self, side: str, train: Train, data: Path, run: Path) -> None:
        path = data / "annotations" / "train.json"
        path.write_text(path.read_text().replace('"width": 32', f'"width": {side}', 1))
        assert_refused(train(data), "image 1 has width", run=run)

    def test_json_nested_without_end(self, train: Train, data: Path, run: Path) -> None:
        (data / "annotations" / "train.json").write_text('{"images":' + "[" * 200_000)
        assert_refused(train(data), "train.json is not JSON", run=run)

    def test_a_file_name_longer_than_any_can_be(self, train: Train, data: Path, run: Path) -> None:
        change(data, lambda coco: coco["images"][1].update(file_name="x" * 5000))
        assert_refused(train(data), "1 image is missing or unreadable", run=run)

    @pytest.mark.parametrize(
        "xml",
        [
            '<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><annotation><object><name>&b;</name></object></annotation>',
            "<?xml version='1.0' encoding='no-such'?><annotation/>",
            "<?xml version='1.0' encoding='utf-7'?><annotation/>",
            "<annotation>" + "<object>" * 100_000,
        ],
    )
    def test_xml_that_is_an_attack_or_nonsense(self, xml: str, train: Train, tmp_path: Path, run: Path) -> None:
        (tmp_path / "voc" / "Annotations").mkdir(parents=True)
        (tmp_path / "voc" / "JPEGImages").mkdir()
        (tmp_path / "voc" / "Annotations" / "1.xml").write_text(xml)
        assert_refused(train(tmp_path / "voc"), "1.xml is not a usable annotation", run=run)

    def test_sides_of_five_thousand_digits_are_no_sides(self, condetr: Command, tmp_path: Path) -> None:
        (tmp_path / "Annotations").mkdir()
        (tmp_path / "JPEGImages").mkdir()
        (tmp_path / "JPEGImages" / "1.png").write_bytes(png(1, 1, pixels=bytes(4)))
        size = f"<size><width>{'9' * 5000}</width><height>1</height></size>"
        (tmp_path / "Annotations" / "1.xml").write_text(f"<annotation>{size}</annotation>")
        assert condetr("doctor", tmp_path, "--recipe", "conditional_detr_tiny").code == 1


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("seed: !!python/object/apply:os.system ['touch {owned}']", "could not determine a constructor"),
            ("seed: !!bool perhaps", "is not valid YAML"),
            ("a: &a [x, x]\nb: &b [*a, *a]\nseed: *b", "unknown setting a"),
            ("[" * 50_000, "nested too deeply"),
            ("# long\n" * 200_000, "settings have at most 1,048,576"),
        ],
    )
    def test_settings(self, text: str, sentence: str, condetr: Command, data: Path, tmp_path: Path, run: Path) -> None:
        (tmp_path / "hostile.yaml").write_text(text.replace("{owned}", str(tmp_path / "owned")))
        ended = condetr("train", tmp_path / "hostile.yaml", "--data", data, "--out", run)
        assert_refused(ended, sentence, run=run)
        assert not (tmp_path / "owned").exists()

    def test_the_description_of_yolo_data(self, train: Train, tmp_path: Path, run: Path) -> None:
        (tmp_path / "data.yaml").write_text(f"names: !!python/object/apply:os.system ['touch {tmp_path}/owned']\n")
        assert_refused(train(tmp_path / "data.yaml"), "is not valid YAML", run=run)
        assert not (tmp_path / "owned").exists()


class TestModels:
    @pytest.fixture
    def model(self, train: Train, data: Path, run: Path) -> Path:
        assert train(data).code == 0
        return run / "best"

    def predict(self, condetr: Command, model: Path, data: Path) -> Ended:
        return condetr("predict", model, data / "val" / "5.png", "--out", model.parent / "predictions")

    def test_settings_that_nothing_can_be_built_from(self, model: Path, condetr: Command, data: Path) -> None:
        good = json.loads((model / "config.json").read_text())
        for name, value in [
            ("num_queries", 10**12),
            ("num_queries", 10**30),
            ("num_queries", -1),
            ("dim", 10**9),
            ("num_heads", 0),
            ("num_heads", 3),
            ("dropout", 7),
            ("dropout", float("nan")),
            ("encoder_layers", 200),
        ]:
            bad = {**good, "detector": {**good["detector"], name: value}}
            (model / "config.json").write_text(json.dumps(bad))
            assert_refused(self.predict(condetr, model, data), "condetr: ", run=model.parent / "predictions")

    def test_images_of_a_million_pixels_a_side(self, model: Path, condetr: Command, data: Path) -> None:
        good = json.loads((model / "config.json").read_text())
        bad = {**good, "transform": {"kind": "light", "size_hw": [10**6, 10**6]}}
        (model / "config.json").write_text(json.dumps(bad))
        ended = self.predict(condetr, model, data)
        assert_refused(ended, "less than or equal to 8192", run=model.parent / "predictions")

    def test_weights_of_absurd_sizes(self, model: Path, condetr: Command, data: Path) -> None:
        for weights in (
            b"",
            struct.pack("<Q", 2**62) + b"{}",
            struct.pack("<Q", 10**8) + b"{" * 1000,
            struct.pack("<Q", 66) + b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}' + bytes(4),
        ):
            (model / "model.safetensors").write_bytes(weights)
            ended = self.predict(condetr, model, data)
            assert_refused(ended, "model.safetensors is damaged", run=model.parent / "predictions")


NO_CHECKPOINTS = {
    "no bytes at all": b"",
    "an end without a value": b".[\xff\xffZ",
    "a name that was never given": b"jjjjj",
    "a text cut off in its length": b"XN\0",
    "no value": b"\x80\x02.",
    "an empty zip file": b"PK\x03\x04" + bytes(40),
    "a number that was never given": b"\x80\x02]q\x00h\x05.",
    "more bytes than any memory has": b"cbuiltins\nbytearray\n\x8a\x08" + bytes(7) + b"\x40\x85R.",
    "more bytes than there are numbers": b"cbuiltins\nbytearray\n\x8a\x09" + bytes(8) + b"\x40\x85R.",
}
"""The first four each ended a training with a traceback once: fuzzing found them."""


@pytest.mark.parametrize("content", NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_checkpoints_that_are_none(content: bytes, train: Train, data: Path, run: Path) -> None:
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_bytes(content)
    assert_refused(train(data, "--resume", "auto"), "cannot resume from", run=run / "best")


def peak_bytes() -> int:
    """Return the most memory that this process has had since the file clear_refs was written to."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


@pytest.fixture(scope="session")
def inflating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that torch unpacks to a large one."""
    path = tmp_path_factory.mktemp("inflating") / "inflating.pth"
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("inflating/version", "3")
        archive.writestr("inflating/byteorder", "little")
        with archive.open("inflating/data.pkl", "w") as entry:
            entry.write(pickle.dumps({}, protocol=2))
            for _ in range(UNPACKED // 2**20):
                entry.write(bytes(2**20))
    assert path.stat().st_size < UNPACKED / 100
    return path


class TestCompressedCheckpoints:
    def assert_refused_unopened(self, command: Command, *arguments: object, run: Path) -> None:
        """Check that a command is refused, the second time with the memory of the first and little more."""
        command(*arguments)
        Path("/proc/self/clear_refs").write_text("5")
        before = peak_bytes()
        assert_refused(command(*arguments), "it is compressed, which torch.save never does", run=run)
        assert peak_bytes() - before < UNPACKED / 4

    def test_as_the_checkpoint_of_a_run(self, inflating: Path, train: Train, data: Path, run: Path) -> None:
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.ckpt").symlink_to(inflating)
        self.assert_refused_unopened(train, data, "--resume", "auto", run=run / "best")

    def test_as_weights_to_start_from(self, inflating: Path, train: Train, data: Path, run: Path) -> None:
        self.assert_refused_unopened(train, data, "--init-from", inflating, run=run)

    def test_as_weights_of_a_backbone(self, inflating: Path, condetr: Command, data: Path, run: Path) -> None:
        command = ("train", "conditional_detr_mobilenet", "--data", data, "--out", run)
        settings = ("--set", f"detector.backbone.weights={inflating}", "--set", "data.batch_size=2")
        self.assert_refused_unopened(condetr, *command, *settings, run=run)

    def test_as_a_model(self, inflating: Path, condetr: Command, data: Path, run: Path) -> None:
        self.assert_refused_unopened(condetr, "convert", inflating, run, run=run)
        self.assert_refused_unopened(condetr, "predict", inflating, data / "val" / "5.png", "--out", run, run=run)


def test_padding_is_compared(train: Train, condetr: Command, data: Path, run: Path, tmp_path: Path) -> None:
    assert train(data).code == 0
    ended = condetr(
        "evaluate", run, "--data", data, "--padding-check", "--precision", "bf16", "--out", tmp_path / "out"
    )
    assert ended.code == 0, ended.err
    assert "batch 8" in ended.out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["precision"] == "bf16"
    check = results["padding_check"]
    assert check["batch_sizes"] == [1, 8]
    alone, batched = check["scores"]["AP"]
    assert check["differences"]["AP"] == pytest.approx(batched - alone)
