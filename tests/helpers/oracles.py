"""Slow and simple implementations of the definitions, one threshold at a time."""

from itertools import pairwise

import numpy as np


def flood_fill(mask):
    """Lists of the pixels of each 8-connected region."""
    remaining = {(y, x) for y, row in enumerate(mask.tolist()) for x, defect in enumerate(row) if defect}
    regions = []
    while remaining:
        region, frontier = [], [remaining.pop()]
        while frontier:
            y, x = frontier.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & remaining
            remaining -= near
            frontier.extend(near)
        regions.append(region)
    return regions


def slow_pro_curve(maps, masks, has_size=lambda area: True):
    """False-positive rate of all defect-free pixels, and mean overlap of the regions of some size, at each threshold."""
    regions = [(i, region) for i, mask in enumerate(masks) for region in flood_fill(mask) if has_size(len(region))]
    n_free = sum(1 for defect in masks.ravel() if not defect)
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        alarms = maps >= threshold
        overlaps = [sum(bool(alarms[i][pixel]) for pixel in region) / len(region) for i, region in regions]
        points.append((int((alarms & ~masks).sum()) / n_free, sum(overlaps) / len(overlaps)))
    return points


def slow_spro_curve(maps, defects):
    """Mean of min(predicted pixels of a defect / saturation, 1); predicted if above the threshold, as in the official code."""
    scores = sorted({float(score) for anomaly_map in maps for score in anomaly_map.ravel()}, reverse=True)
    points = []
    for threshold in [*scores, scores[-1] - 1]:
        overlaps, false_positives, n_free = [], 0, 0
        for anomaly_map, of_image in zip(maps, defects, strict=True):
            predicted = {(y, x) for y, row in enumerate(anomaly_map.tolist()) for x, score in enumerate(row) if score > threshold}
            channels = [{(int(y), int(x)) for y, x in zip(*defect.pixels.nonzero(), strict=True)} for defect in of_image]
            union = set().union(*channels)
            overlaps += [min(len(predicted & c) / defect.saturation, 1) for c, defect in zip(channels, of_image, strict=True)]
            false_positives += len(predicted - union)
            n_free += anomaly_map.size - len(union)
        points.append((false_positives / n_free, sum(overlaps) / len(overlaps)))
    return points


def slow_area(points, limit):
    """Normalised area under straight lines between the points, from 0 to the limit."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + at_limit) / 2
    return area / limit


def slow_covariance(truth, scores):
    """DeLong's definition over all pairs: 1 for the right order, 1/2 for a tie."""
    pairs = []
    for of_model in scores:
        normal, anomalous = of_model[~truth], of_model[truth]
        pairs.append([[1.0 if x > y else 0.5 if x == y else 0.0 for y in normal] for x in anomalous])
    psi = np.array(pairs)  # models, anomalous, normal
    areas = psi.mean((1, 2))
    total = np.zeros((len(scores), len(scores)))
    for axis, count in ((2, psi.shape[1]), (1, psi.shape[2])):
        deviations = psi.mean(axis) - areas[:, None]
        total += deviations @ deviations.T / (count - 1) / count
    return areas, total
