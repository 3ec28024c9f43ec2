from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adjobs.data.annotation_files import AnnotatedImages, class_of, published_split, read_xml, size_of
from adjobs.data.formats import load_formats
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError
from tests.helpers.drawing import save
from tests.helpers.layouts import LAYOUTS

IMAGE = np.zeros((8, 8), np.uint8)


def attribute_label(tmp_path, key, value):
    """The label and defect type that an attribute gives an image, and the problems."""
    context = ReadContext()
    images = AnnotatedImages(tmp_path, context)
    annotated = images.open(save(tmp_path / "a.png", IMAGE), "labels.json")
    images.add_attribute(annotated, key, value)
    sample = annotated.sample()
    return sample.label, sample.defect, len(context.problems)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ok", True, ("normal", "", 0)),
        ("scratch", True, ("anomalous", "scratch", 0)),
        ("scratch", False, ("normal", "", 0)),
        ("scratch", None, ("anomalous", "scratch", 0)),
        ("Defect-Type", "dent", ("anomalous", "dent", 0)),
        ("quality", "NG", ("anomalous", "", 0)),
        ("surface", "i.O.", ("normal", "", 0)),
        ("quality", {"ok": True, "dent": False}, ("normal", "", 0)),
        ("quality", {"ok": False, "dent": True}, ("anomalous", "dent", 0)),
        ("camera", "left", ("normal", "", 1)),
        ("camera", "", ("normal", "", 0)),
        ("scratch", "yes", ("anomalous", "scratch", 1)),
        ("line", 1, ("anomalous", "line", 1)),
        ("defect", "1", ("anomalous", "", 0)),
        ("ok", "yes", ("normal", "", 0)),
    ],
)
def test_add_attribute_is_a_class_by_its_name_or_value(key, value, expected, tmp_path):
    assert attribute_label(tmp_path, key, value) == expected


def test_find_falls_back_to_the_only_image_of_the_name(tmp_path):
    context = ReadContext()
    for name in ("a/x.png", "b/x.png", "b/y.png"):
        save(tmp_path / name, IMAGE)
    images = AnnotatedImages(tmp_path, context)
    assert images.find("f.json", "C:\\data\\y.png", [tmp_path]) == tmp_path / "b" / "y.png"
    assert images.find("f.json", "/data/x.png", [tmp_path]) is None
    assert [problem.sample for problem in context.problems] == ["f.json: image /data/x.png"]
    assert context.problems[0].message.startswith("there are 2 images of this name; copy it to where the file names it")


@pytest.mark.parametrize(
    ("names", "split"),
    [(["Train"], "train"), (["test2017"], "test"), (["images", "validation"], "val"), (["default"], None), ([], None)],
)
def test_published_split(names, split):
    assert published_split(*names) == split


@pytest.mark.parametrize(("size", "expected"), [(("40", " 30"), (40, 30)), ((None, 3), None), (("0", "0"), None)])
def test_size_of_numbers_or_texts(size, expected):
    assert size_of(*size) == expected


def test_class_of_several_attributes_is_the_one_named_so():
    assert class_of({"severity": "2", "Label": "dent"}) == "dent"
    assert class_of({"name": "", "kind": {"a": True, "b": True}}) == ""


def test_read_xml_never_expands_entities(tmp_path):
    bomb = '<!DOCTYPE z [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><annotations>&b;</annotations>'
    path = tmp_path / "a.xml"
    for text in (bomb.encode(), bomb.encode("utf-16")):
        path.write_bytes(text)
        with pytest.raises(DataError, match=r"a\.xml: has a DOCTYPE"):
            read_xml(path)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("coco", "annotations/instances_test.json"),
        ("cvat", "more.xml"),
        ("datumaro", "annotations/val.json"),
        ("labelstudio", "more.json"),
        ("via", "more.json"),
    ],
)
@pytest.mark.parametrize(("text", "reason"), [("", "is empty"), ("<a", "is not valid")])
def test_read_damaged_file_beside_the_documents_is_a_warning(layout, name, text, reason, tmp_path):
    root = LAYOUTS[layout](tmp_path / "set")
    before, after = ReadContext(), ReadContext()
    samples = load_formats()[layout].read(root, before)
    (root / name).write_text(text)
    assert load_formats()[layout].read(root, after) == samples
    (warning,) = [problem for problem in after.problems if problem not in before.problems]
    assert (warning.sample, warning.severity) == ("", "warning")
    assert warning.message.startswith(f"{name} is left out: {reason}")


def leaves(document, path=()):
    """The paths of all values in a JSON document."""
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def replaced(document, path, value):
    """A copy of a document with another value in one place."""
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.sampled_from(["", "x", "nan", "-1", "../a.png", "polygon", "mask", "rectangle", "ellipse", "bitmap", "1e999", "é" * 300]),
    st.lists(st.one_of(st.integers(-5, 99), st.floats(), st.none(), st.just([1, 2])), max_size=5),
    st.dictionaries(st.sampled_from(["name", "exterior", "size", "counts", "x"]), st.integers(-1, 9), max_size=2),
)

ANNOTATION_FILES = {
    "cvat": "annotations.xml",
    "datumaro": "annotations/test.json",
    "labelme": "bad0.json",
    "supervisely": "test/ann/bad0.png.json",
    "via": "via_region_data.json",
    "voc": "Annotations/bad0.xml",
}


@pytest.fixture(scope="module")
def drawn_sets(tmp_path_factory):
    """A data set in each format, with the text of one annotation file."""
    roots = {name: LAYOUTS[name](tmp_path_factory.mktemp(name) / "set") for name in ANNOTATION_FILES}
    return {name: (root, (root / ANNOTATION_FILES[name]).read_text()) for name, root in roots.items()}


@pytest.mark.parametrize("name", ANNOTATION_FILES)
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_any_annotation_file_gives_samples_problems_or_one_line(name, drawn_sets, data):
    root, text = drawn_sets[name]
    path: Path = root / ANNOTATION_FILES[name]
    if path.suffix == ".json":
        document = json.loads(text)
        place = data.draw(st.sampled_from(sorted(leaves(document), key=str)))
        path.write_text(json.dumps(replaced(document, place, data.draw(ODD_VALUES))))
    else:
        values = [match.span(1) for match in re.finditer(r'[">]([^<>"]*)["<]', text)]
        start, end = data.draw(st.sampled_from(values))
        path.write_text(text[:start] + str(data.draw(ODD_VALUES)).replace("\0", "") + text[end:], encoding="utf-8")
    context = ReadContext()
    messages, samples = [], []
    try:
        samples = load_formats()[name].read(root, context)
    except DataError as error:
        messages.append(str(error))
    assert messages or len({sample.id for sample in samples}) == len(samples) > 10
    assert not any("\n" in message for message in [*messages, *(problem.message for problem in context.problems)])
