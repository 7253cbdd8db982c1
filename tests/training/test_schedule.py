"""Checkpoints: a run that was stopped goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from training.schedule import Average, Checkpoint


def trained(path: Path, steps: int) -> tuple[nn.Module, Average, Checkpoint]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    average = Average(model)
    optimiser = torch.optim.AdamW(model.parameters(), 0.1)
    kept = Checkpoint(path, model, average, optimiser, "cpu")
    for step in range(kept.step, kept.step + steps):
        optimiser.zero_grad()
        model(torch.full((1, 3), step + 1.0)).square().sum().backward()
        optimiser.step()
        average.update(model, step)
    kept.save(kept.step + steps, kept.spent_s + steps, config={"width": 3})
    return model, average, kept


def test_stopped_and_resumed_is_the_same_as_in_one_go(tmp_path: Path) -> None:
    whole, whole_average, _ = trained(tmp_path / "whole.pt", 6)
    trained(tmp_path / "parts.pt", 2)
    model, average, kept = trained(tmp_path / "parts.pt", 4)
    assert torch.equal(whole.weight, model.weight)
    assert torch.equal(whole_average.model.weight, average.model.weight)
    assert kept.state["config"] == {"width": 3}
    assert torch.load(tmp_path / "parts.pt", weights_only=True)["step"] == 6


def test_it_is_saved_no_more_often_than_asked(tmp_path: Path) -> None:
    kept = trained(tmp_path / "run.pt", 1)[2]
    kept.save(5, kept.saved_s + 59, every_s=60)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 1
    kept.save(5, kept.saved_s + 60, every_s=60)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 5
