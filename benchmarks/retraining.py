"""Does a pass bring a new defect type into force, and does the gate stop what it must stop?

    python benchmarks/retraining.py DATA --out OUT --defect blowhole --job job.yaml

Of a labelled data set (such as the magnetic tiles) one defect type and some normal images are held back. The first pass trains
the champion without them. Then each case begins with that champion and that data set, and puts something into the inbox:

- labelled: images of the held-back type, with boxes;
- mislabelled: as many normal images that somebody has labelled with boxes of this type;
- few: six images of the type.

One pass follows; what it says of champion and challenger is read from its record. Images of one part, such as other exposures of
a tile, stay together, unless --ignore-groups takes each as a part of its own. Everything runs through the command line; what is
finished is kept in OUT and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from report import machine, table, write_result
from scipy import ndimage

from adjobs.config.environment import load_settings
from adjobs.data.dataset import Sample
from adjobs.data.open import open_dataset
from adjobs.reporting.figures.style import BLUE, DPI, GREY, INK, SMALL, style_axes

COUNT, FEW = 20, 6
CASES = ("labelled", "mislabelled", "few")
MODEL, FIRST = "tiles", "tiles-first"
COLUMNS = (
    "inbox",
    "gate",
    "state",
    "new anomalies",
    "old anomalies",
    "false alarms",
    "AUROC on old, difference",
    "recall, likewise",
)
GATE = {
    "target_gain": 0.3,
    "auroc_margin": 0.1,
    "recall_margin": 0.15,
    "max_false_alarm_rate": 0.2,
    "max_changed_decisions": 0.2,
}


def main() -> None:
    """Run all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="labelled data set with masks, in a folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of all that is made")
    parser.add_argument("--defect", required=True, help="defect type that is held back")
    parser.add_argument("--per-group", type=int, default=6, help="images of one part that are used")
    parser.add_argument("--ignore-groups", action="store_true", help="take each image as a part of its own, as the papers do")
    parser.add_argument("--seed", type=int, default=0, help="of the images that are held back, and of the splits")
    parser.add_argument("--start-from", choices=("scratch", "champion"), default="champion", help="weights of a challenger")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="what is put into the inbox")
    parser.add_argument("--name", default="retraining", help="of the result")
    parser.add_argument("--figure", type=Path, help="PNG file for a picture of the result")
    parser.add_argument("--job", type=Path, required=True, help="job file of the training, without data.uri")
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= {"ADJOBS_HOME": str(out / "home"), "ADJOBS_ARTIFACTS": str(out / "artifacts")}
    held, held_normal = stage(options, out)
    job = yaml.safe_load(options.job.read_text())
    train_champion(out, job, options.seed)
    inboxes = {
        "labelled": (f"{COUNT} images labelled", held[:COUNT]),
        "mislabelled": (f"{COUNT} normal images mislabelled", held_normal[:COUNT]),
        "few": (f"{FEW} images labelled", held[:FEW]),
    }
    cases = dict(inboxes[case] for case in options.cases)
    results = {name: run_case(options, out, job, name, samples) for name, samples in cases.items()}
    unit = "images" if options.ignore_groups else f"parts of up to {options.per_group} images"
    about = (
        f"Data `{Path(options.data).name}`, defect type `{options.defect}` held back ({len(held)} images), seed {options.seed}; "
        f"{unit} count as independent, and are never split. A challenger starts from the weights of "
        f"{'the champion' if options.start_from == 'champion' else 'its seed'}. Counts are images, champion → challenger; of the "
        f"test images, new are those of the inbox. Gate: {', '.join(f'{key} {value:g}' for key, value in GATE.items())}."
    )
    first = next(iter(results.values()))
    body = [
        about,
        f"```yaml\n{options.job.read_text().strip()}\n```",
        table(f"| {' | '.join(COLUMNS)} |", [describe(name, result) for name, result in results.items()], left=3),
        "\n".join(f"- **{name}**: {result['sentence']}" for name, result in results.items()),
        f"{next(iter(results))}, by defect type:",
        table(
            "| test images | number | alarms of the champion | of the challenger |", rows_by_type(first["record"]["decisions"])
        ),
        "`adjobs models history` after the first case (a version that was promoted is rolled back to show it):",
        f"```text\n{first['history'].strip()}\n```",
    ]
    if options.figure:
        draw(results, options.figure)
    write_result(options.name, f"Retraining with a new defect type, {options.defect}", machine(torch.device("cpu")), body)


def stage(options: argparse.Namespace, out: Path) -> tuple[list[Sample], list[Sample]]:
    """Copy the data without what is held back; returns the held-back images of the type and the normal ones, in a fixed order."""
    dataset = open_dataset(options.data, cache=load_settings().cache)
    with_groups, defect = not options.ignore_groups, options.defect
    rng = random.Random(options.seed)
    by_group: dict[str, list[Sample]] = defaultdict(list)
    for sample in dataset.samples:
        by_group[(sample.group if with_groups else None) or sample.id].append(sample)
    names = sorted(by_group)
    rng.shuffle(names)
    of_type = [by_group[name] for name in names if any(sample.defect == defect for sample in by_group[name])]
    normal = [by_group[name] for name in names if all(sample.label == "normal" for sample in by_group[name])][:COUNT]
    held_ids = {sample.id for group in (*of_type, *normal) for sample in group}
    initial = out / "initial"
    if not initial.exists():
        unfinished = out / "initial.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        used = {sample.id for images in by_group.values() for sample in rng.sample(images, min(options.per_group, len(images)))}
        kept = [sample for sample in dataset.samples if sample.id in used - held_ids]
        write_manifest(unfinished, kept, with_groups, {sample.id: {} for sample in kept})
        unfinished.rename(initial)
    return [sample for sample in in_turn(of_type) if sample.defect == defect], in_turn(normal)


def write_manifest(folder: Path, samples: Sequence[Sample], with_groups: bool, labels: Mapping[str, Mapping[str, Any]]) -> None:
    """Images in a folder under new names, with one list of their labels; ``labels`` replaces those of a sample, by its id."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for number, sample in enumerate(samples):
        line: dict[str, Any] = {"image": f"images/{number:04}{sample.image.suffix}", "label": sample.label}
        shutil.copyfile(sample.image, folder / line["image"])
        if sample.group and with_groups:
            line["group"] = sample.group
        if replaced := labels[sample.id]:
            line |= replaced
        elif sample.label == "anomalous":
            line["defect"] = sample.defect
            if isinstance(sample.mask, Path):
                line["mask"] = f"images/{number:04}_mask{sample.mask.suffix}"
                shutil.copyfile(sample.mask, folder / line["mask"])
        lines.append(json.dumps(line))
    (folder / "manifest.jsonl").write_text("\n".join(lines))


def in_turn(by_group: Sequence[Sequence[Sample]]) -> list[Sample]:
    """One image of each part, then a second one, and so on: the first ones show different parts."""
    longest = max(map(len, by_group), default=0)
    return [images[index] for index in range(longest) for images in by_group if index < len(images)]


def train_champion(out: Path, job: Mapping[str, Any], seed: int) -> None:
    """The data set without the type, and the first version."""
    if (out / "first").exists():
        return
    shutil.rmtree(out / "dataset", ignore_errors=True)
    adjobs(
        "dataset", "create", str(out / "dataset"), "--from", str(out / "initial"), "--protocol", "holdout", "--seed", str(seed)
    )
    retrain(out, job, FIRST, None, "scratch")
    shutil.copytree(out / "dataset", out / "first")


def run_case(
    options: argparse.Namespace, out: Path, job: Mapping[str, Any], name: str, samples: Sequence[Sample]
) -> dict[str, Any]:
    """One case, from the first champion and the first data set."""
    slug = name.replace(" ", "-")
    done = out / f"{slug}.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    shutil.rmtree(out / "dataset", ignore_errors=True)
    shutil.copytree(out / "first", out / "dataset")
    inbox = out / f"inbox-{slug}"
    shutil.rmtree(inbox, ignore_errors=True)
    write_inbox(inbox, samples, not options.ignore_groups, options.defect)
    model = f"{MODEL}-{slug}"
    register_first(model)
    result = retrain(out, job, model, inbox, options.start_from)
    result["history"] = adjobs("models", "history", model)
    result["record"] = read_record(model, result["number"])
    if result["state"] == "promoted":
        adjobs("models", "rollback", model, "--reason", "only to show it")
        result["history"] = adjobs("models", "history", model)
    done.write_text(json.dumps(result, indent=1))
    return result


def write_inbox(inbox: Path, samples: Sequence[Sample], with_groups: bool, defect: str) -> None:
    """Images of the type, or those that were taken for it, with boxes."""
    labels = {sample.id: {"label": "anomalous", "defect": defect, "boxes": boxes_of(sample)} for sample in samples}
    write_manifest(inbox, samples, with_groups, labels)


def boxes_of(sample: Sample) -> list[tuple[int, int, int, int]]:
    """Boxes around the regions of a mask; around the middle of a normal image, which was labelled by mistake."""
    with Image.open(sample.image) as image:
        width, height = image.size
    regions: list[tuple[slice, slice]] = []
    if isinstance(sample.mask, Path):  # that of a normal image may be empty
        with Image.open(sample.mask) as mask:
            labels, _ = ndimage.label(np.asarray(mask.convert("L")) > 0, np.ones((3, 3)))
        regions = ndimage.find_objects(labels)
    boxes = [(item[1].start, item[0].start, item[1].stop, item[0].stop) for item in regions]
    return boxes or [(width // 4, height // 4, 3 * width // 4, 3 * height // 4)]


def register_first(model: str) -> None:
    """A model of its own for a case, whose champion is the first one."""
    from adjobs.registry.changes import promote
    from adjobs.registry.journal import Journal
    from adjobs.registry.models import CHAMPION, ModelStore
    from adjobs.tracking.logged_model import pin_model_uri

    settings = load_settings()
    store = ModelStore(settings.tracking_uri)
    journal = Journal(store, settings.artifacts, "benchmark")
    first = store.versions(store.model(FIRST))[0]
    version = store.register(model, first.run_id, pin_model_uri(settings.tracking_uri, first.run_id), {})
    if store.model(model).aliases.get(CHAMPION) is None:
        promote(journal, model, version.version, reason="trained without the type")


def retrain(out: Path, job: Mapping[str, Any], model: str, inbox: Path | None, start_from: str) -> dict[str, Any]:
    """One pass."""
    document = {
        "model": model,
        "dataset": str(out / "dataset"),
        "inbox": None if inbox is None else str(inbox),
        "job": dict(job),
        "start_from": start_from,
        "when": {"new_labels": 1},
        "gate": GATE,
    }
    path = out / f"{model}.yaml"
    path.write_text(yaml.safe_dump(document))
    return dict(json.loads(adjobs("retrain", str(path), "--local", "--json")))


def read_record(model: str, number: int) -> dict[str, Any]:
    """What the step of the gate recorded."""
    from adjobs.retraining.passes import Passes
    from adjobs.retraining.run import location
    from adjobs.storage import open_store

    outcome = Passes(open_store(location(load_settings().artifacts, model))).get(number).outcome("gate")
    assert outcome is not None
    return outcome


def describe(name: str, result: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    record = result["record"]
    groups = split_decisions(record["decisions"])
    checks = {check["name"]: check for check in record["verdict"]["checks"]}
    counts = [f"{count(items, 'champion')} → {count(items, 'challenger')} of {len(items)}" for items in groups.values()]
    taken = result["taken_in"]
    inbox = f"{name}: {taken['added']} taken in" + (f", {len(taken['set_aside'])} set aside" if taken["set_aside"] else "")
    return [inbox, record["decision"], result["state"], *counts, limits(checks["auroc"]), limits(checks["recall"])]


def split_decisions(decisions: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Decisions on new anomalies, old anomalies and normal images."""
    return {
        "new anomalies": [item for item in decisions if item["is_new"]],
        "old anomalies": [item for item in decisions if item["label"] and not item["is_new"]],
        "normal images": [item for item in decisions if not item["label"]],
    }


def count(decisions: Sequence[Mapping[str, Any]], model: str) -> int:
    """Alarms of a model."""
    return sum(item[model] for item in decisions)


def rows_by_type(decisions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of normal images and each defect type."""
    by_type: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for item in decisions:
        by_type["normal" if not item["label"] else f"{item['defect']}{', new' if item['is_new'] else ''}"].append(item)
    return [
        [name, str(len(items)), str(count(items, "champion")), str(count(items, "challenger"))]
        for name, items in sorted(by_type.items())
    ]


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Shares of images that raise an alarm, champion beside challenger, a panel for each case."""
    figure = Figure(figsize=(7.6, 3.1), dpi=DPI, layout="constrained")
    for axes, (name, result) in zip(figure.subplots(1, len(results), sharey=True), results.items(), strict=True):
        groups = split_decisions(result["record"]["decisions"])
        style_axes(axes, f"{name}:\n{result['record']['decision']}")
        for offset, colour, model in ((-0.2, GREY, "champion"), (0.2, BLUE, "challenger")):
            for row, items in enumerate(groups.values()):
                share = count(items, model) / max(1, len(items))
                axes.bar(row + offset, share, 0.36, color=colour)
                axes.text(row + offset, share + 0.02, str(count(items, model)), ha="center", fontsize=SMALL, color=INK)
        labels = [group.replace(" ", "\n") + f"\n({len(items)})" for group, items in groups.items()]
        axes.set_xticks(range(len(groups)), labels, fontsize=SMALL)
        axes.set_ylim(0, 1.1)
    figure.axes[0].set_ylabel("share that raises an alarm", fontsize=SMALL, color=INK)
    handles = [Patch(color=GREY, label="champion"), Patch(color=BLUE, label="challenger")]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False, fontsize=SMALL, labelcolor=INK)
    figure.savefig(path)


def limits(check: Mapping[str, Any]) -> str:
    """A value with its limits."""
    if check["value"] is None:
        return str(check["status"])
    if check["low"] is None:
        return f"{check['value']:+.3f}"
    return f"{check['value']:+.3f} ({check['low']:+.3f} to {check['high']:+.3f})"


def adjobs(*arguments: str) -> str:
    """What a verb prints; the benchmark ends with its error."""
    print("adjobs", *arguments, file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "adjobs", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    main()
