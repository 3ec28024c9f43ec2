"""The SG block's equations and switches."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from adjobs.methods.slsg.config import Config
from adjobs.methods.slsg.graph import SGBlock, max_relative
from adjobs.nn.position import sincos_2d
from tests.helpers.randomness import generator


def build_block(side: int = 4, **params: object) -> SGBlock:
    torch.manual_seed(0)
    return SGBlock(Config(width=8, **params), side)


def test_max_relative_is_equation_6():
    random = generator()
    nodes, edges = torch.randn(2, 5, 3, generator=random), torch.randint(0, 5, (2, 5, 4), generator=random)
    result = max_relative(nodes, edges)
    for b in range(2):
        for i in range(5):
            expected = torch.stack([nodes[b, j] - nodes[b, i] for j in edges[b, i]]).amax(0)
            torch.testing.assert_close(result[b, i], expected)


def test_edges_connect_similar_nodes_at_different_positions():
    x = torch.randn(1, 16, 32, generator=generator())
    code = F.normalize(sincos_2d(4, 4, 64).flatten(1).T, dim=1)
    similarity = F.cosine_similarity(x[0][:, None], x[0][None], dim=2) - code @ code.T
    assert torch.equal(build_block(neighbours=3).edges(x, x)[0], similarity.topk(3, 1).indices)
    dilated = build_block(neighbours=3, dilation=2)
    assert torch.equal(dilated.edges(x, x)[0], similarity.topk(6, 1).indices[:, ::2])


def test_edges_without_position_similarity_start_with_the_node_itself():
    x = torch.randn(1, 16, 32, generator=generator())
    block = build_block(neighbours=3, subtract_position_similarity=False)
    assert (block.edges(x, x)[0, :, 0] == torch.arange(16)).all()


def test_edges_are_limited_to_the_number_of_nodes():
    x = torch.randn(1, 16, 32, generator=generator())
    assert build_block(neighbours=20).edges(x, x).shape == (1, 16, 16)


def test_edges_are_exact_under_autocast():
    block, x = build_block(neighbours=3), 1 + torch.rand(1, 16, 32, generator=generator())
    expected = block.edges(x, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(block.edges(x, x), expected)


def test_self_attention_is_equations_2_and_3():
    block, x = build_block(graph=False), torch.randn(1, 64, 4, 4, generator=generator())
    f, g, h = (layer(x).flatten(2)[0].T for layer in (block.f, block.g, block.h))
    z = torch.softmax(f @ g.T / math.sqrt(32), 1) @ h
    torch.testing.assert_close(block(x), block.update(z.T.view(1, 64, 4, 4)))


def test_self_attention_official_shares_projections_and_is_not_scaled():
    block, x = build_block(graph=False, attention="official"), torch.randn(1, 64, 4, 4, generator=generator())
    assert block.g is None
    f, h = (layer(x).flatten(2)[0].T for layer in (block.f, block.h))
    z = torch.softmax(f @ f.T, 1) @ h
    torch.testing.assert_close(block(x), block.update(z.T.view(1, 64, 4, 4)))


@pytest.mark.parametrize(("self_attention", "graph"), [(True, False), (False, True), (True, True)])
def test_sg_block_every_parameter_gets_a_gradient(self_attention, graph):
    block = build_block(self_attention=self_attention, graph=graph)
    x = torch.randn(2, 64, 4, 4, generator=generator())
    output = block(x)
    assert output.shape == x.shape
    output.square().sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None] == []


def test_sg_block_without_branches_is_the_identity():
    x = torch.randn(2, 64, 4, 4, generator=generator())
    assert build_block(self_attention=False, graph=False)(x) is x


def test_sg_block_receptive_field_is_global():
    block, x = build_block(), torch.randn(1, 64, 4, 4, generator=generator())
    changed = x.clone()
    changed[..., 0, 0] += 1
    assert ((block(x) - block(changed)).abs().amax(1) > 0).all()
