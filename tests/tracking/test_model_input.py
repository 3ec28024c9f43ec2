"""What the logged model takes."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adjobs.errors import DataError
from adjobs.tracking.model_input import images_in, source_of

ONE, TWO = b"\x89PNG one", b"\x89PNG two"
GREY = np.zeros((4, 5), np.uint8)
COLOUR = np.zeros((4, 5, 3), np.uint16)


@pytest.mark.parametrize(
    "model_input",
    [
        [ONE, TWO],
        (ONE, TWO),
        pd.Series([ONE, TWO], name="file"),
        pd.DataFrame({"image": [ONE, TWO], "line": [1, 2]}),
        pd.DataFrame({"line": [1, 2], "image": [ONE, TWO]}),
        pd.DataFrame({"file": [ONE, TWO]}),
        pd.DataFrame([ONE, TWO]),
        {"image": [ONE, TWO]},
        {"file": np.array([ONE, TWO], object)},
        [{"image": ONE, "line": 1}, {"image": TWO, "line": 1}],
        [{"image": np.array(ONE, object)}, {"image": TWO}],
    ],
    ids=str,
)
def test_images_in_tables_lists_and_records_are_the_same(model_input):
    assert images_in(model_input) == [ONE, TWO]


@pytest.mark.parametrize("image", [ONE, "abcd", Path("a.png"), GREY, COLOUR, Image.new("L", (4, 5))], ids=type)
def test_images_in_one_image_is_a_list_of_it(image):
    for model_input in (image, [image], {"image": [image]}, pd.DataFrame({"image": [image]})):
        assert len(images_in(model_input)) == 1
        assert np.array_equal(images_in(model_input)[0], image)


def test_images_in_arrays_of_text_and_of_images():
    assert images_in(np.array(["abcd", "efgh"])) == ["abcd", "efgh"]
    assert images_in(np.array("abcd")) == ["abcd"]
    assert images_in(np.array([["abcd"], ["efgh"]])) == ["abcd", "efgh"]
    batch = images_in(np.zeros((3, 4, 5, 3), np.uint8))
    assert [image.shape for image in batch] == [(4, 5, 3)] * 3
    assert images_in(pd.DataFrame({"image": []})) == []


@pytest.mark.parametrize("model_input", [pd.DataFrame({"a": [ONE], "b": [ONE]}), {"a": ONE, "b": ONE}, {}, pd.DataFrame()])
def test_images_in_table_without_the_column_is_refused(model_input):
    with pytest.raises(DataError, match=r"its columns are (a, b|none); give a column 'image', or one column alone"):
        images_in(model_input)


def test_source_of_base64_in_every_form_is_the_content():
    content = Image.new("RGB", (60, 50)).tobytes()[:200] + b"\xff"
    encoded = base64.b64encode(content)
    forms = [
        encoded,
        encoded.decode(),
        base64.encodebytes(content),
        f"data:image/png;base64,{encoded.decode()}",
        bytearray(content),
    ]
    assert [source_of(form) for form in forms] == [content] * len(forms)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_source_of_image_file_is_never_taken_for_base64(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.full((40, 40), 65, np.uint8)).save(path)
    assert source_of(path.read_bytes()) == path.read_bytes()


def test_source_of_text_is_never_a_path(tmp_path, monkeypatch):
    """Not even if a file of that name exists; nor if the name happens to be base64."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "abcd"
    file.write_bytes(ONE)
    assert source_of("abcd") == base64.b64decode("abcd")
    for text in ("./abcd", str(file) + ".png", file.as_uri(), f"../{tmp_path.name}/abcd", "s3://bucket/abcd"):
        with pytest.raises(DataError, match=r"got text that is not base64, .*; text is never a path"):
            source_of(text)


def test_source_of_something_else_is_refused():
    with pytest.raises(DataError, match=r"image: got float; give bytes of an image file, .* pathlib\.Path"):
        source_of(1.5)
