from __future__ import annotations

import numpy as np

from adjobs.labelling.selection import select_diverse

FEATURES = np.array([[0.0], [0.0], [0.0], [1.0], [5.0], [6.0]])
VALUES = np.array([1.0, 0.9, 0.8, 0.7, 0.1, 0.2])


def test_select_weight_0_takes_the_most_valuable():
    assert select_diverse(VALUES, FEATURES, 4, 0).tolist() == [0, 1, 2, 3]


def test_select_takes_no_second_image_of_the_same_kind():
    chosen = select_diverse(VALUES, FEATURES, 4, 1).tolist()
    assert chosen[0] == 0
    assert not {1, 2} & set(chosen)


def test_select_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    values, features = rng.random(30), rng.normal(size=(30, 4))
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    scale = np.median(distances[np.triu_indices(30, 1)])
    expected = [int(values.argmax())]
    while len(expected) < 10:
        gains = {
            i: values[i] * min(1, min(distances[i, j] for j in expected) / scale) ** 2 for i in range(30) if i not in expected
        }
        expected.append(max(gains, key=lambda i: gains[i]))
    assert select_diverse(values, features, 10, 2).tolist() == expected


def test_select_equal_images_gives_each_once():
    assert sorted(select_diverse(np.ones(4), np.zeros((4, 2)), 4, 1).tolist()) == [0, 1, 2, 3]


def test_select_one_image():
    assert select_diverse(np.zeros(1), np.zeros((1, 2)), 1, 1).tolist() == [0]
