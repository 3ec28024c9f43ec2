"""Terms of a score in deviations of normal images."""

from __future__ import annotations

import torch

from adjobs.nn.normal_scales import NormalScales


def test_terms_of_normal_images_have_no_mean_and_unit_deviation():
    generator, scales = torch.Generator().manual_seed(0), NormalScales(2)
    terms = [torch.randn(4, 8, 8, generator=generator) * 0.02 + 3, torch.randn(4, 8, 8, generator=generator) * 50 - 7]
    assert all(map(torch.equal, scales(*terms), terms))  # nothing is fitted
    scales.fit(*terms)
    for term in scales(*terms):
        torch.testing.assert_close(term.mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
        torch.testing.assert_close(term.std(), torch.tensor(1.0))


def test_a_constant_term_does_not_turn_rounding_into_a_score():
    scales, constant = NormalScales(1), torch.full((2, 8, 8), -5.3)
    scales.fit(constant)
    (term,) = scales(constant + 5e-7)
    assert float(term.abs().max()) < 2e-3
