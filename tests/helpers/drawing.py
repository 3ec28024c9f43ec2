"""Small data sets drawn on the fly: textured squares, the anomalous ones with a bright scratch and its mask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def texture(size: int, rng: np.random.Generator) -> np.ndarray:
    """A normal surface: ``(size, size, 3)`` uint8, grey stripes with noise; no two draws are equal."""
    y, x = np.mgrid[:size, :size]
    stripes = 12 * np.sin(x * 2 * np.pi / 8 + rng.uniform(0, 2 * np.pi)) + 6 * np.sin(y * 2 * np.pi / 16)
    grey = 110 + stripes + rng.normal(0, 4, (size, size))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def scratch(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a bright diagonal line.

    Returns:
        The scratched copy of ``image``, and the scratch as ``(size, size)`` bool.
    """
    size = len(image)
    y, x = np.mgrid[:size, :size]
    angle, centre = rng.uniform(0, np.pi), rng.uniform(size * 0.35, size * 0.65, 2)
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    mask = (np.abs(along) < size * 0.3) & (np.abs(across) < max(1.0, size / 32))
    scratched = image.copy()
    scratched[mask] = 240
    return scratched, mask


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write uint8 or bool pixels as an image, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(path)
    return path


def draw_folder(root: Path, n_normal: int, n_anomalous: int, size: int = 64, seed: int = 0) -> Path:
    """Plain layout: ``normal/000.png``, ``anomalous/scratch/000.png``, ``masks/scratch/000.png``. Returns ``root``."""
    rng = np.random.default_rng(seed)
    for i in range(n_normal):
        save(root / "good" / f"{i:03}.png", texture(size, rng))
    for i in range(n_anomalous):
        image, mask = scratch(texture(size, rng), rng)
        save(root / "bad" / "scratch" / f"{i:03}.png", image)
        save(root / "masks" / "scratch" / f"{i:03}.png", mask)
    return root


def draw_mvtec(root: Path, n_normal: int, n_anomalous: int, size: int = 64, seed: int = 0) -> Path:
    """MVTec AD's layout; the last quarter of the normal images (at least one) is in ``test``. Returns ``root``."""
    rng = np.random.default_rng(seed)
    n_train = n_normal - max(1, n_normal // 4)
    for i in range(n_normal):
        folder = root / "train" / "good" if i < n_train else root / "test" / "good"
        save(folder / f"{i:03}.png", texture(size, rng))
    for i in range(n_anomalous):
        image, mask = scratch(texture(size, rng), rng)
        save(root / "test" / "scratch" / f"{i:03}.png", image)
        save(root / "ground_truth" / "scratch" / f"{i:03}_mask.png", mask)
    return root


def draw_images(root: Path, normal: Iterable[str], anomalous: Iterable[str], size: int = 32) -> dict[str, np.ndarray]:
    """Normal and scratched squares at these paths. Returns the scratches of the latter, ``(size, size)`` bool, by path."""
    rng = np.random.default_rng(0)
    for name in normal:
        save(root / name, texture(size, rng))
    masks = {}
    for name in anomalous:
        image, masks[name] = scratch(texture(size, rng), rng)
        save(root / name, image)
    return masks


def numbered(pattern: str, n: int, start: int = 0) -> list[str]:
    """``n`` paths with a number in each: ``numbered("train/{:03}.png", 2)``."""
    return [pattern.format(i) for i in range(start, start + n)]


MTD_FREE = tuple(f"exp{i % 6}_num_{1000 * (i // 6) + 20 * (i % 6)}" for i in range(18))
MTD_BROKEN = ("exp1_num_9000", "exp2_num_9020", "exp1_num_12000", "exp1_num_15000", "exp1_num_18000")


def draw_mtd(root: Path, free: Iterable[str] = MTD_FREE, broken: Iterable[str] = MTD_BROKEN) -> Path:
    """Magnetic tiles: images as JPEG, a mask as PNG beside each. Returns ``root``."""
    free = [f"MT_Free/Imgs/{name}.jpg" for name in free]
    masks = draw_images(root, free, [f"MT_Break/Imgs/{name}.jpg" for name in broken])
    for name, mask in {**dict.fromkeys(free, np.zeros((32, 32), dtype=bool)), **masks}.items():
        save((root / name).with_suffix(".png"), mask)
    return root


def draw_elpv(root: Path, probabilities: Iterable[float] = (*[0.0] * 15, 0.3333333333333333, 0.6666666666666666, 1.0)) -> Path:
    """Solar cells with the probability that each is defective. Returns ``root``."""
    lines = [f"images/cell{i:04}.png  {probability}                 mono" for i, probability in enumerate(probabilities)]
    draw_images(root, [line.split()[0] for line in lines], [])
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def draw_mvtec3d(root: Path) -> Path:
    """MVTec 3D-AD, where the masks of normal scans are empty. Returns ``root``."""
    normal = [*numbered("train/good/rgb/{:03}.png", 10), *numbered("validation/good/rgb/{:03}.png", 3)]
    test_normal = numbered("test/good/rgb/{:03}.png", 3)
    masks = draw_images(root, normal + test_normal, numbered("test/hole/rgb/{:03}.png", 4))
    for name, mask in {**masks, **dict.fromkeys(test_normal, np.zeros((32, 32), dtype=bool))}.items():
        save(root / name.replace("rgb", "gt"), mask)
    for name in [*normal, *test_normal, *masks]:
        xyz = root / name.replace("rgb", "xyz").replace(".png", ".tiff")
        xyz.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32), dtype=np.float32)).save(xyz)
    (root / "calibration").mkdir()
    (root / "calibration" / "camera_parameters.json").write_text("{}")
    return root


def draw_visa(root: Path) -> Path:
    """A product of VisA, with the split list beside it; masks hold the number of the defect's type. Returns ``root``."""
    normal = numbered("Data/Images/Normal/{:04}.JPG", 15)
    masks = draw_images(root, normal, numbered("Data/Images/Anomaly/{:03}.JPG", 4))
    types = ["bent", '"bent,chunk of wax missing"', "bent", "other"]
    split_lines = ["object,split,label,image,mask", "candle,train,normal,candle/Data/Images/Normal/0000.JPG,"]
    type_lines = ["image,label,mask"]
    for i, name in enumerate(normal):
        split_lines.append(f"{root.name},{'train' if i < 12 else 'test'},normal,{root.name}/{name},")
        type_lines.append(f"{root.name}/{name},normal,")
    for i, (name, mask) in enumerate(masks.items()):
        mask_name = name.replace("Images", "Masks").replace("JPG", "png")
        save(root / mask_name, mask.astype(np.uint8) * (i + 1))
        split_lines.append(f"{root.name},test,anomaly,{root.name}/{name},{root.name}/{mask_name}")
        type_lines.append(f"{root.name}/{name},{types[i]},{root.name}/{mask_name}")
    (root / "image_anno.csv").write_text("\n".join(type_lines) + "\n")
    (root.parent / "split_csv").mkdir(exist_ok=True)
    (root.parent / "split_csv" / "1cls.csv").write_text("\n".join(split_lines) + "\n")
    return root


def draw_btad(root: Path) -> Path:
    """A product of BTAD: images as BMP, masks as PNG. Returns ``root``."""
    normal = [*numbered("train/ok/{:04}.bmp", 12), *numbered("test/ok/{:04}.bmp", 3)]
    for name, mask in draw_images(root, normal, numbered("test/ko/{:04}.bmp", 4)).items():
        save(root / name.replace("test", "ground_truth").replace("bmp", "png"), mask)
    return root


def draw_loco(root: Path) -> Path:
    """MVTec LOCO AD: the scratch is one layer, and logical anomalies have a corner as a second. Returns ``root``."""
    normal = [f"{split}/good/{i:03}.png" for split, n in (("train", 10), ("validation", 3), ("test", 3)) for i in range(n)]
    anomalous = [f"test/{kind}_anomalies/{i:03}.png" for kind in ("logical", "structural") for i in range(3)]
    for name, mask in draw_images(root, normal, anomalous).items():
        folder = root / name.replace("test", "ground_truth").removesuffix(".png")
        save(folder / "000.png", mask.astype(np.uint8) * 255)
        if "logical" in name:
            corner = np.zeros((32, 32), dtype=np.uint8)
            corner[:4, :5] = 254
            save(folder / "001.png", corner)
    kinds = [("scratch", 255, 6, False), ("corner", 254, 0.5, True)]
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    (root / "defects_config.json").write_text(json.dumps([dict(zip(keys, kind, strict=True)) for kind in kinds]))
    return root


def draw_ksdd2(root: Path) -> Path:
    """KolektorSDD2: empty masks beside normal images, and one image twice, as in the published archive. Returns ``root``."""
    normal = [*numbered("train/{}.png", 12, 10000), *numbered("test/{}.png", 3, 20000)]
    masks = draw_images(root, normal, [*numbered("train/{}.png", 2, 10100), *numbered("test/{}.png", 3, 20100)])
    for name, mask in {**dict.fromkeys(normal, np.zeros((32, 32), dtype=bool)), **masks}.items():
        save(root / name.replace(".png", "_GT.png"), mask)
    shutil.copy(root / "train" / "10100.png", root / "train" / "10100 (copy).png")
    shutil.copy(root / "train" / "10100_GT.png", root / "train" / "10100_GT (copy).png")
    return root


def draw_oct(root: Path) -> Path:
    """Retinas: four images of each patient for training. Returns ``root``."""
    normal = [f"train/NORMAL/NORMAL-{1000 + i // 4}-{1 + i % 4}.jpeg" for i in range(12)]
    anomalous = [f"train/{kind}/{kind}-{2000 + i}-1.jpeg" for kind in ("CNV", "DME", "DRUSEN") for i in range(2)]
    for split, patient in (("val", 3000), ("test", 4000)):
        normal += numbered(f"{split}/NORMAL/NORMAL-{{}}-1.jpeg", 2, patient)
        anomalous += [f"{split}/{kind}/{kind}-{patient}-7.jpeg" for kind in ("CNV", "DME", "DRUSEN")]
    draw_images(root, normal, anomalous)
    return root


def draw_manifest(root: Path) -> Path:
    """A manifest of JSON lines: a mask, blocks, boxes, outlines, only an image label, and no label. Returns ``root``."""
    normal, anomalous = numbered("images/good{:02}.png", 14), numbered("images/bad{:02}.png", 5)
    masks = draw_images(root, [*normal, "images/new.png"], anomalous)
    save(root / "masks" / "bad00.png", masks[anomalous[0]])
    save(root / "blocks" / "bad01.png", np.array([[0, 255], [128, 0]], dtype=np.uint8))
    outline = {"segmentations": [[[2, 2, 9, 2, 9, 9.5]]], "width": 32, "height": 32}
    labels = [{"mask": "masks/bad00.png", "defect": "scratch"}, {"blocks": "blocks/bad01.png"}, {"boxes": [[1, 2, 8, 9]]}]
    lines = [{"image": name, "label": "normal", "group": f"tray {i // 2}"} for i, name in enumerate(normal)]
    lines += [
        {"image": name, "label": "anomalous", **label}
        for name, label in zip(anomalous, [*labels, {"mask": outline}, {}], strict=True)
    ]
    lines += [{"image": "images/new.png", "label": "unlabelled"}]
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


def draw_coco(root: Path) -> Path:
    """One COCO document in ``annotations``: a polygon, a run-length code, a box without outline. Returns ``root``."""
    normal, anomalous = numbered("good{:02}.jpg", 14), numbered("bad{}.jpg", 3)
    draw_images(root / "images", normal, anomalous)
    images = [{"id": i, "file_name": name, "width": 32, "height": 32} for i, name in enumerate([*anomalous, *normal])]
    crowd = {"size": [32, 32], "counts": [64, 96, 864]}
    annotations = [
        {
            "id": 1,
            "image_id": 0,
            "category_id": 1,
            "bbox": [4, 4, 9, 5],
            "area": 45,
            "segmentation": [[4, 4, 13, 4, 13, 9, 4, 9]],
        },
        {"id": 2, "image_id": 0, "category_id": 2, "bbox": [20, 20, 3, 3], "area": 9, "segmentation": [[20, 20, 23, 20, 23, 23]]},
        {"id": 3, "image_id": 1, "category_id": 2, "bbox": [2, 0, 3, 32], "iscrowd": 1, "segmentation": crowd},
        {"id": 4, "image_id": 2, "category_id": 1, "bbox": [1.5, 2, 10, 20.25], "segmentation": []},
    ]
    categories = [{"id": 1, "name": "scratch, deep"}, {"id": 2, "name": "dent"}]
    (root / "annotations").mkdir()
    document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_default.json").write_text(json.dumps(document))
    return root


def draw_yolo(root: Path) -> Path:
    """YOLO with splits: boxes, outlines, an empty label file, and normal images without one. Returns ``root``."""
    normal = [f"images/{split}/good{i:02}.jpg" for split, n in (("train", 10), ("val", 3), ("test", 3)) for i in range(n)]
    lines = {"images/train/bad.jpg": "0 0.5 0.5 0.25 0.5\n1 0.125 0.125 0.25 0.25\n", "images/train/good00.jpg": ""}
    lines["images/test/bad.jpg"] = "1 0.25 0.25 0.75 0.25 0.75 0.5\n"
    draw_images(root, normal, [name for name, text in lines.items() if text])
    for name, text in lines.items():
        path = root / name.replace("images", "labels", 1).replace("jpg", "txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "labels" / "val").mkdir()
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\nnames: [scratch, dent]\n")
    return root


def draw_labelstudio(root: Path) -> Path:
    """Label Studio's export: a rectangle, a polygon, a choice, skipped, and submitted without a region. Returns ``root``."""
    normal, anomalous = numbered("good{:02}.png", 13), numbered("bad{}.png", 3)
    draw_images(root / "images", [*normal, "skipped.png", "new.png"], anomalous)
    size = {"original_width": 32, "original_height": 32, "image_rotation": 0, "from_name": "label", "to_name": "image"}
    box = {"x": 25.0, "y": 12.5, "width": 50.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["Scratch"]}
    polygon = {"points": [[25, 25], [75, 25], [75, 50]], "closed": True, "polygonlabels": ["Dent"]}
    results = {
        "bad0.png": [{**size, "id": "a", "type": "rectanglelabels", "value": box}],
        "bad1.png": [{**size, "id": "b", "type": "polygonlabels", "value": polygon}],
        "bad2.png": [{"id": "c", "type": "choices", "from_name": "kind", "to_name": "image", "value": {"choices": ["Bad"]}}],
    }
    tasks = [
        {
            "id": i,
            "data": {"image": f"/data/upload/3/0123abcd-{name}"},
            "file_upload": f"0123abcd-{name}",
            "annotations": [{"id": i, "was_cancelled": name == "skipped.png", "result": results.get(name, [])}],
            "predictions": [],
        }
        for i, name in enumerate([*anomalous, *normal, "skipped.png"], 1)
    ]
    (root / "project-3-at-2026-01-31.json").write_text(json.dumps(tasks))
    return root
