"""Muon: orthogonal steps, and state that continues bit by bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmalign.train.optimizers import Joint, Muon, build, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (16, 6), (6, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(2, *shape)
    made = orthogonalize(matrix)
    assert made.shape == matrix.shape
    values = torch.linalg.svdvals(made)
    assert float(values.min()) > 0.5 and float(values.max()) < 1.3
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.mT @ made @ vh.mT
    assert float((inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-3


def test_the_step_has_the_promised_size_and_direction() -> None:
    weight = nn.Parameter(torch.zeros(4, 4))
    optimizer = Muon([weight], lr=0.1)
    weight.grad = 3.0 * torch.eye(4)
    optimizer.step()
    expected = -0.1 * 0.2 * 2.0 * orthogonalize(torch.eye(4)[None])[0]
    torch.testing.assert_close(weight.detach(), expected)
    assert float(weight.detach().diagonal().max()) < 0


def test_a_small_network_learns_and_continues_bit_by_bit() -> None:
    def fresh() -> tuple[nn.Sequential, torch.optim.AdamW | Joint]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        return net, build(
            list(net.parameters()), name="muon", lr=0.02, betas=(0.9, 0.99), weight_decay=0.01,
            not_matrices=list(net[2].parameters()),
        )  # fmt: skip

    torch.manual_seed(1)
    x = torch.randn(64, 3)
    y = (x[:, :1] * x[:, 1:2]).sign()

    def train(net: nn.Sequential, optimizer: torch.optim.AdamW | Joint, num: int) -> float:
        loss = torch.tensor(0.0)
        for _ in range(num):
            loss = (net(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss)

    net, optimizer = fresh()
    first = train(net, optimizer, 1)
    assert train(net, optimizer, 60) < 0.8 * first
    one, one_optimizer = fresh()
    train(one, one_optimizer, 6)
    two, two_optimizer = fresh()
    train(two, two_optimizer, 3)
    three, three_optimizer = fresh()
    three.load_state_dict(two.state_dict())
    three_optimizer.load_state_dict(two_optimizer.state_dict())
    train(three, three_optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))


def test_vectors_are_not_for_muon() -> None:
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)
