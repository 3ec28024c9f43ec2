"""Published layouts, and recognition among all formats."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adjobs.data import formats
from adjobs.data.dataset import Dataset, Sample, fingerprint
from adjobs.data.formats.loco import read_defects
from adjobs.data.images import ImageError, decode_mask
from adjobs.data.labels.masks import Layers, read_mask
from adjobs.data.open import open_dataset
from adjobs.errors import DataError
from tests.helpers.drawing import LAYOUTS, draw_elpv, draw_images, draw_mtd, draw_mvtec, draw_visa, save, texture


def opened(root: Path, layout: str = "auto") -> Dataset:
    return open_dataset(str(root), layout, cache=Path("unused"))


def samples_of(root: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in opened(root).samples}


def pixels() -> np.ndarray:
    return texture(16, np.random.default_rng(0))


def test_there_is_a_drawing_of_every_format():
    assert list(LAYOUTS) == list(formats.load_formats())


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognised_as_itself_alone(name, tmp_path):
    root = LAYOUTS[name](tmp_path / "set")
    (root / ".hidden").mkdir()
    save(root / ".hidden" / "x.png", pixels())
    assert [other for other, reader in formats.load_formats().items() if reader.recognises(root)] == [name]
    index = opened(root)
    assert index == opened(root, name)
    assert (index.format, index.root) == (name, root)
    ids = [sample.id for sample in index.samples]
    assert ids == sorted(set(ids))
    assert not any("hidden" in name for name in ids)
    for sample in index.samples:
        assert sample.image == root / sample.id
        assert all(file.is_file() for file in sample.files)
        assert sample.mask is None or read_mask(sample.mask).any() == (sample.label == "anomalous")
        assert sample.label == "anomalous" or (sample.defect, sample.boxes) == ("", None)
    assert len(fingerprint(index)) == 64


@pytest.mark.parametrize("name", formats.load_formats())
def test_descriptions_are_one_short_line(name):
    text = formats.load_formats()[name].DESCRIPTION
    assert "\n" not in text
    assert 20 < len(text) < 140


@pytest.mark.parametrize("name", formats.load_formats())
def test_an_empty_folder_is_of_no_format(name, tmp_path):
    assert not formats.load_formats()[name].recognises(tmp_path)
    assert not formats.load_formats()[name].recognises(tmp_path / "missing")


def test_a_manifest_goes_before_the_layout_of_folders(folder_root):
    (folder_root / "manifest.csv").write_text("image,label\ngood/000.png,normal\n")
    index = opened(folder_root)
    assert (index.format, len(index.samples)) == ("manifest", 1)
    assert opened(folder_root, "folder").format == "folder"


def test_mvtec(tmp_path):
    root = draw_mvtec(tmp_path, 8, 2)
    save(root / "validation" / "good" / "a.PNG", pixels())
    shutil.move(root / "ground_truth" / "scratch" / "001_mask.png", root / "ground_truth" / "scratch" / "001.png")
    samples = samples_of(root)
    assert len(samples) == 11
    one = samples["test/scratch/000.png"]
    assert (one.label, one.defect, one.published_split, one.group) == ("anomalous", "scratch", "test", None)
    assert one.mask == root / "ground_truth" / "scratch" / "000_mask.png"
    assert samples["test/scratch/001.png"].mask == root / "ground_truth" / "scratch" / "001.png"
    good = samples["train/good/000.png"]
    assert (good.label, good.defect, good.published_split, good.mask) == ("normal", "", "train", None)
    assert samples["validation/good/a.PNG"].published_split == "val"


def test_visa_rearranged_by_its_script_is_mvtec(tmp_path):
    good = ["train/good/0000.JPG", "test/good/0001.JPG"]
    for name, mask in draw_images(tmp_path, good, ["test/bad/000.JPG"]).items():
        save(tmp_path / name.replace("test", "ground_truth").replace("JPG", "png"), mask)
    assert opened(tmp_path).format == "mvtec"
    bad = samples_of(tmp_path)["test/bad/000.JPG"]
    assert (bad.defect, bad.mask) == ("bad", tmp_path / "ground_truth" / "bad" / "000.png")


def test_folder_synonyms_types_and_masks(tmp_path):
    for path in ["OK/a.png", "OK/deep/b.webp", "ng/plain.jpg", "ng/crack/c.bmp", "masks/crack/c.tif", "OK/.hidden.png"]:
        save(tmp_path / path, pixels())
    samples = samples_of(tmp_path)
    assert {name: sample.label for name, sample in samples.items()} == {
        "OK/a.png": "normal",
        "OK/deep/b.webp": "normal",
        "ng/crack/c.bmp": "anomalous",
        "ng/plain.jpg": "anomalous",
    }
    assert (samples["ng/crack/c.bmp"].defect, samples["ng/plain.jpg"].defect) == ("crack", "")
    assert samples["ng/crack/c.bmp"].mask == tmp_path / "masks" / "crack" / "c.tif"
    assert samples["ng/plain.jpg"].mask is None


def test_mtd_groups_are_tiles(tmp_path):
    free = ["exp1_num_100", "exp2_num_130", "exp3_num_155", "exp1_num_900", "other"]
    root = draw_mtd(tmp_path, free, ["exp1_num_400", "exp2_num_440", "exp3_num_470"])
    samples = {sample.image.stem: sample for sample in opened(root).samples}
    assert {name: sample.group for name, sample in samples.items()} == {
        "exp1_num_100": "tile-100",
        "exp2_num_130": "tile-100",
        "exp3_num_155": "tile-100",
        "exp1_num_400": "tile-400",
        "exp2_num_440": "tile-400",
        "exp3_num_470": "tile-400",
        "exp1_num_900": "tile-900",
        "other": None,
    }
    broken = samples["exp1_num_400"]
    assert (broken.label, broken.defect) == ("anomalous", "break")
    assert broken.mask == broken.image.with_suffix(".png")
    assert samples["other"].label == "normal"


def test_elpv_is_anomalous_above_zero(tmp_path):
    samples = opened(draw_elpv(tmp_path, [0.0, 0.3333333333333333, 0.6666666666666666, 1.0])).samples
    assert [(sample.label, sample.defect) for sample in samples] == [
        ("normal", ""),
        ("anomalous", "p=0.33"),
        ("anomalous", "p=0.67"),
        ("anomalous", "p=1.00"),
    ]


@pytest.mark.parametrize(
    "line", ["images/a.png 1.5 mono", "images/a.png mono", "images/../../a.png 0 mono", "images/a.png nan x"]
)
def test_elpv_malformed_lines(line, tmp_path):
    root = draw_elpv(tmp_path, [0.0])
    with (root / "labels.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"labels.csv: line 2 is 'images/.*'; allowed is 'images/x.png <0 to 1> <cell type>'"):
        opened(root)


def test_mvtec3d_reads_colour_only(tmp_path):
    root = LAYOUTS["mvtec3d"](tmp_path)
    samples = samples_of(root)
    assert Counter((s.published_split, s.label) for s in samples.values()) == {
        ("train", "normal"): 10,
        ("val", "normal"): 3,
        ("test", "normal"): 3,
        ("test", "anomalous"): 4,
    }
    bad = samples["test/hole/rgb/002.png"]
    assert (bad.defect, bad.mask) == ("hole", root / "test" / "hole" / "gt" / "002.png")
    assert samples["test/good/rgb/000.png"].mask == root / "test" / "good" / "gt" / "000.png"
    assert samples["train/good/rgb/000.png"].mask is None


def test_visa_as_published(tmp_path):
    root = draw_visa(tmp_path / "pcb1")
    samples = samples_of(root)
    assert Counter((s.published_split, s.label) for s in samples.values()) == {
        ("train", "normal"): 12,
        ("test", "normal"): 3,
        ("test", "anomalous"): 4,
    }
    two = samples["Data/Images/Anomaly/001.JPG"]
    assert (two.defect, two.mask) == ("bent+chunk of wax missing", root / "Data" / "Masks" / "Anomaly" / "001.png")
    # Masks hold class numbers, here 2, and not 255.
    assert decode_mask(two.mask).any()


def test_visa_without_its_lists(tmp_path):
    root = draw_visa(tmp_path / "pcb1")
    (root / "image_anno.csv").unlink()
    shutil.rmtree(tmp_path / "split_csv")
    assert {(s.published_split, s.defect) for s in opened(root).samples} == {(None, "")}


def test_visa_and_a_split_that_does_not_fit(tmp_path):
    root = draw_visa(tmp_path / "pcb1")
    (root / "Data" / "Images" / "Normal" / "0003.JPG").unlink()
    with pytest.raises(DataError, match=r"1cls.csv: line 6 names pcb1/Data/Images/Normal/0003.JPG, which is not there"):
        opened(root)
    renamed = root.rename(tmp_path / "board")
    with pytest.raises(DataError, match=r"1cls.csv: has no line for object board; .*; rename it or remove the list$"):
        opened(renamed)
    (tmp_path / "split_csv" / "1cls.csv").write_text("board,learn,normal,board/Data/Images/Normal/0000.JPG,\n")
    with pytest.raises(DataError, match=r"1cls.csv: line 1 is 'board,learn,.*'; allowed is object,split,label,image,mask"):
        opened(renamed)


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_btad_masks_of_both_kinds(suffix, tmp_path):
    masks = draw_images(tmp_path, ["train/ok/0000.png", "test/ok/0000.png"], ["test/ko/0000.png"])
    save(tmp_path / "ground_truth" / "ko" / f"0000.{suffix}", masks["test/ko/0000.png"])
    samples = samples_of(tmp_path)
    assert {name: (s.published_split, s.label, s.defect) for name, s in samples.items()} == {
        "test/ko/0000.png": ("test", "anomalous", "ko"),
        "test/ok/0000.png": ("test", "normal", ""),
        "train/ok/0000.png": ("train", "normal", ""),
    }
    assert samples["test/ko/0000.png"].mask == tmp_path / "ground_truth" / "ko" / f"0000.{suffix}"


def test_loco_has_a_layer_for_each_defect(tmp_path):
    root = LAYOUTS["loco"](tmp_path)
    samples = samples_of(root)
    folder = root / "ground_truth" / "logical_anomalies" / "001"
    logical = samples["test/logical_anomalies/001.png"]
    assert (logical.published_split, logical.defect) == ("test", "logical_anomalies")
    assert logical.mask == Layers((folder / "000.png", folder / "001.png"), root / "defects_config.json")
    assert samples["validation/good/000.png"].published_split == "val"
    scratch, corner = read_defects(logical.mask)
    # The scratch saturates at 6 pixels, the corner of 4 x 5 at half its area.
    assert (scratch.saturation, corner.saturation, int(corner.pixels.sum())) == (6, 10, 20)
    assert np.array_equal(scratch.pixels | corner.pixels, read_mask(logical.mask))


@pytest.mark.parametrize(
    ("threshold", "relative", "saturation"),
    [(7, False, 7), (21, False, 20), (1.0, True, 20), (0.99, True, 19), (0.001, True, 1)],
)
def test_loco_saturation(threshold, relative, saturation, tmp_path):
    layer = np.zeros((8, 8), dtype=np.uint8)
    layer[:4, :5] = 7
    kinds = tmp_path / "kinds.json"
    kinds.write_text(json.dumps([{"pixel_value": 7, "saturation_threshold": threshold, "relative_saturation": relative}]))
    assert [d.saturation for d in read_defects(Layers((save(tmp_path / "0.png", layer),), kinds))] == [saturation]


def test_loco_layers_that_say_nothing_clear(tmp_path):
    root = LAYOUTS["loco"](tmp_path)
    mask = samples_of(root)["test/structural_anomalies/000.png"].mask
    kinds = json.loads(mask.kinds.read_text())
    mask.kinds.write_text(json.dumps(kinds[1:]))
    with pytest.raises(DataError, match=r"000.png: value 255 is no kind of defect; .*defects_config.json has 254; add it there"):
        read_defects(mask)
    mask.kinds.write_text(json.dumps([{**kinds[0], "pixel_value": 0}]))
    with pytest.raises(DataError, match=r"defects_config.json: 0.pixel_value is 0; input should be greater than or equal to 1;"):
        read_defects(mask)
    mask.kinds.write_text("[{]")
    with pytest.raises(DataError, match=r"defects_config.json: is no JSON \(.* line 1 column 3 .*\); export it again$"):
        read_defects(mask)
    with pytest.raises(DataError, match=r"has no list of kinds of defects; .*; add defects_config.json$"):
        read_defects(Layers(mask.paths))
    mask.kinds.write_text(json.dumps(kinds))
    for layer, got in (
        (np.zeros((32, 32)), "has 0 values"),
        (np.eye(32) + 1, "has 2 values"),
        (np.ones((9, 9, 3)), "has colours"),
    ):
        save(mask.paths[0], layer.astype(np.uint8))
        with pytest.raises(ImageError, match=rf"000.png: {got}.*; allowed is one grey value"):
            read_defects(mask)


def test_ksdd2_is_anomalous_where_the_mask_says_so(tmp_path):
    root = LAYOUTS["ksdd2"](tmp_path)
    samples = samples_of(root)
    assert Counter((s.published_split, s.label) for s in samples.values()) == {
        ("train", "normal"): 12,
        ("train", "anomalous"): 2,
        ("test", "normal"): 3,
        ("test", "anomalous"): 3,
    }
    assert samples["train/10100.png"].mask == root / "train" / "10100_GT.png"
    assert not any("copy" in name for name in samples)


def test_oct_groups_are_patients(tmp_path):
    samples = samples_of(LAYOUTS["oct"](tmp_path))
    assert {s.group for name, s in samples.items() if "train/NORMAL" in name} == {"1000", "1001", "1002"}
    # The number is the patient's whatever the class: one person may have several diseases.
    assert {name for name, s in samples.items() if s.group == "4000"} == {
        "test/CNV/CNV-4000-7.jpeg",
        "test/DME/DME-4000-7.jpeg",
        "test/DRUSEN/DRUSEN-4000-7.jpeg",
        "test/NORMAL/NORMAL-4000-1.jpeg",
    }
    drusen = samples["val/DRUSEN/DRUSEN-3000-7.jpeg"]
    assert (drusen.label, drusen.defect, drusen.published_split) == ("anomalous", "drusen", "val")


def _add(name):
    return lambda root: save(root / name, pixels())


def _remove(name):
    return lambda root: (root / name).unlink()


@pytest.mark.parametrize(
    ("layout", "spoil", "message"),
    [
        ("folder", _add("scratches/x.png"), r"scratches/x.png has no meaning here; images belong in good/ .*; move or remove"),
        ("folder", _add("masks/scratch/099.png"), r"mask masks/scratch/099.png belongs to no image; .*; rename or remove it$"),
        ("folder", _add("masks/scratch/000.bmp"), r"000.bmp and masks/scratch/000.png are masks of one image; keep one of them$"),
        ("folder", _add("bad/scratch/000.bmp"), r"mask masks/scratch/000.png belongs to two images, whose names differ in"),
        ("folder", _add("Good/000.png"), r"has Good/ and good/; their names mean the same; put the images of both into one$"),
        ("mvtec", _add("test/flat.png"), r"test/flat.png has no meaning here; images belong in train/good/"),
        ("mvtec", _remove("test/scratch/000.png"), r"mask ground_truth/scratch/000_mask.png belongs to no image"),
        ("mtd", _remove("MT_Break/Imgs/exp1_num_9000.jpg"), r"MT_Break/Imgs/exp1_num_9000.png belongs to no image \(one of 1\)"),
        ("btad", _remove("test/ko/0000.bmp"), r"mask ground_truth/ko/0000.png belongs to no image; ground_truth/ko/x.png is"),
        ("mvtec3d", _remove("test/hole/rgb/000.png"), r"mask test/hole/gt/000.png belongs to no image; gt/x.png is the mask of"),
        ("mvtec3d", _add("test/hole/000.png"), r"test/hole/000.png has no meaning here; images belong in \{train,"),
        ("mvtec3d", _add("extra/000.png"), r"extra/000.png has no meaning here"),
        ("visa", _remove("Data/Images/Anomaly/000.JPG"), r"1cls.csv: line 18 names .*Anomaly/000.JPG, which is not there"),
        ("visa", _add("Data/Masks/Anomaly/777.png"), r"mask Data/Masks/Anomaly/777.png belongs to no image; Data/Masks"),
        ("visa", _add("Data/Images/Odd/0.JPG"), r"Data/Images/Odd/0.JPG has no meaning here; images belong in Data/Images/\{"),
        ("loco", _remove("test/logical_anomalies/000.png"), r"logical_anomalies/000/000.png \(and 1 more\) has no meaning here;"),
        ("loco", _add("extra/000.png"), r"extra/000.png has no meaning here; images belong in train/good/"),
        ("ksdd2", _remove("train/10001.png"), r"train/10001_GT.png: mask belongs to no image; x_GT.png is the mask of x.png"),
        ("ksdd2", _remove("test/20100_GT.png"), r"test/20100.png: image has no mask; x_GT.png .*; add what is missing$"),
        ("ksdd2", _add("more/1.png"), r"more/1.png has no meaning here; images belong in train/ and test/"),
        ("oct", _add("train/AMD/AMD-1-1.jpeg"), r"train/AMD/AMD-1-1.jpeg has no meaning here; images belong in \{train,val,test"),
        (
            "oct",
            _add("train/CNV/scan.jpeg"),
            r"train/CNV/scan.jpeg: the name has no patient; allowed is .* as CNV-1016042-12.jpeg",
        ),
    ],
)
def test_images_and_masks_without_meaning(layout, spoil, message, tmp_path):
    root = LAYOUTS[layout](tmp_path / "set")
    spoil(root)
    with pytest.raises(DataError, match=message) as caught:
        opened(root, layout)
    assert "\n" not in str(caught.value)


def test_ksdd2_mask_that_cannot_be_read(tmp_path):
    root = LAYOUTS["ksdd2"](tmp_path)
    (root / "train" / "10001_GT.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"train/10001_GT.png: is no image"):
        opened(root)


def test_the_folder_of_several_products_names_one_of_them(tmp_path):
    draw_visa(tmp_path / "VisA" / "candle")
    with pytest.raises(DataError, match=r"layout not recognised \(but its folder candle is visa\)"):
        opened(tmp_path / "VisA")
