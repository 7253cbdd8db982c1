"""What every model adapter promises, on a tiny pipeline of its family with random weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance import REGISTRY
from guidance.apg import APG
from guidance.asks import Conditions, Level
from guidance.autoguidance import Autoguidance
from guidance.base import Guidance
from guidance.cfg import CFG
from guidance.cfgpp import CFGPP
from guidance.classifier import Classifier
from guidance.fkc import FKC
from guidance.gfcg import GFCG
from guidance.none import NoGuidance
from samplers.architectures import architecture, read_layout
from samplers.cards import CARDS, problems
from samplers.driver import drive
from samplers.loop import Run, batch, run
from samplers.models import adapter
from samplers.models.base import Model
from samplers.models.judge import Judge
from samplers.noise import Noise
from samplers.steps import compile_plan
from tests.pipelines import BUILDERS, build
from workers.engine import Engine
from workers.ticket import Outcome, Ticket

MIXED: list[tuple[Guidance, int]] = [
    (CFG(scale=3), 4),
    (APG(scale=5), 3),
    (CFGPP(scale=0.6), 5),
    (NoGuidance(), 4),
    (NoGuidance(), 3),
    (CFG(scale=2, guide_to=0.5), 6),
]
"""Methods and step counts that share forwards here."""


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def model(request: pytest.FixtureRequest) -> Any:
    pipeline = build(request.param)
    return adapter(type(pipeline).__name__)("tiny", pipeline)


def prompts(model: Model) -> tuple[str, str]:
    return ("goldfish", "2") if "DiT" in type(model).__name__ else ("a red apple", "blue")


def mixed(model: Model) -> list[tuple[Guidance, int]]:
    """The methods that this model takes; an unconditional one has but one branch."""
    sampler = CARDS[next(name for name, card in CARDS.items() if model.family in card.families)]
    return [(one, steps) for one, steps in MIXED if not problems(one, sampler, model.family, model.extras)]


def size(model: Model) -> tuple[int, int]:
    return 4 * model.factor, 4 * model.factor


def config(model: Model) -> dict[str, Any]:
    return model.schedule_config(model.latent_shape(*size(model)))


def levels(model: Model) -> list[Level]:
    sampler = next(name for name, card in CARDS.items() if model.family in card.families)
    return list(compile_plan(sampler, 3, model.family, config(model)).levels[:3])


def noise(model: Model, rows: int) -> torch.Tensor:
    shape = (rows, *model.latent_shape(*size(model)))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def image(model: Model, guidance: Guidance, seed: int, steps: int) -> Run:
    fitting = [name for name, card in CARDS.items() if model.family in card.families and not card.stochastic]
    plan = compile_plan(fitting[seed % len(fitting)], steps, model.family, config(model))
    cond = Conditions(*model.encode(prompts(model)).conds)
    return run(plan, guidance, cond, Noise(seed, model.latent_shape(*size(model)), batch(guidance)))


def test_mixed_guidance_shares_forwards_and_gives_each_image_its_own(model: Model) -> None:
    engine = Engine({"tiny": model}, max_rows=16)
    outcomes: list[list[Outcome]] = []
    for seed, (guidance, steps) in enumerate(mixed(model)):
        outcomes.append([])
        engine.submit(Ticket("tiny", image(model, guidance, seed, steps), outcomes[-1].append))
    while engine.step():
        pass
    longest = max(outcome.nfe.model for (outcome,) in outcomes)
    assert engine.stats.forwards <= longest
    for seed, ((guidance, steps), (outcome,)) in enumerate(zip(mixed(model), outcomes, strict=True)):
        (alone,), _ = drive(model, [image(model, guidance, seed, steps)])
        assert outcome.final is not None
        torch.testing.assert_close(outcome.final.latents, alone.latents, rtol=1e-3, atol=1e-3)


def test_every_method_runs_with_every_sampler_that_it_is_said_to_take(model: Model) -> None:
    """All cells of the model's matrix at once, as a busy worker would run them."""
    cells = [
        (guidance, card.name)
        for method in REGISTRY.values()
        for guidance in [method()]
        for card in CARDS.values()
        if not problems(guidance, card, model.family, model.extras)
        and not guidance.requires().classes  # a request brings these, not the model
        and not guidance.requires().qr
    ]
    assert {sampler for _, sampler in cells} == {
        name for name, card in CARDS.items() if model.family in card.families
    }
    shape = model.latent_shape(*size(model))
    cond = Conditions(*model.encode(prompts(model)).conds)
    plans = {sampler: compile_plan(sampler, 3, model.family, config(model)) for _, sampler in cells}
    runs = [
        run(plans[sampler], guidance, cond, Noise(1, shape, batch(guidance))) for guidance, sampler in cells
    ]
    finals, nfe = drive(model, runs)
    for (guidance, sampler), final, cost in zip(cells, finals, nfe, strict=True):
        assert final.latents.shape == (1, *shape), (guidance.method, sampler)
        assert 0 < cost.model + cost.weak <= guidance.nfe(plans[sampler].steps) * batch(guidance)


FURTHER: list[Guidance] = [
    GFCG(),
    GFCG(mode="mix"),
    GFCG(mode="autoguidance"),
    Classifier(),
    Classifier(gradient="x_t"),
    Autoguidance(scale=2.0),
    FKC(target="anneal", scale=1.5, particles=2),
    FKC(target="product", particles=2),
    FKC(target="product", second="weak", particles=2),
]
"""What needs a weak network, a classifier or classes, or takes other paths with other parameters."""


class Brightness(Judge):
    """A judge that knows as many classes as it is asked for, by how bright a picture is and where."""

    def __init__(self) -> None:
        super().__init__(None, None)

    def logits(
        self, images: torch.Tensor, labels: Sequence[str], grad: bool = False, softplus: float | None = None
    ) -> torch.Tensor:
        with torch.set_grad_enabled(grad):
            brightness = images.mean((1, 3))
            return torch.stack([brightness[:, i::2].mean(1) * (3 + i) for i in range(len(labels))], 1)


@pytest.fixture(scope="module")
def judged(model: Model) -> Any:
    """The same with a weak network and a classifier."""
    pipeline = model._pipeline  # type: ignore[attr-defined]
    part = architecture(type(pipeline).__name__).part
    weak = copy.deepcopy(getattr(pipeline, part))
    for weight in weak.parameters():
        weight.mul_(0.9)
    made = adapter(type(pipeline).__name__)("judged", pipeline, weak)
    made.judged_by(Brightness())
    return made


@pytest.mark.parametrize("most", [1, pytest.param(len(CARDS), marks=pytest.mark.slow)], ids=["one", "all"])
def test_what_needs_more_than_the_network_runs_where_that_is(judged: Model, most: int) -> None:
    """Each with one sampler, or with all that fit: GFCG, classifier and auto-guidance, FKC's targets."""
    shape = judged.latent_shape(*size(judged))
    positive, other = judged.encode(prompts(judged)).conds
    cond = Conditions(positive, other, (other,))
    cells = [
        (guidance, sampler)
        for guidance in FURTHER
        for sampler in [
            card for card in CARDS.values() if not problems(guidance, card, judged.family, judged.extras)
        ][:most]
    ]
    missing = {guidance.method for guidance in FURTHER} - {guidance.method for guidance, _ in cells}
    assert missing <= ({"fkc"} if judged.family == "flow" else set())
    for guidance, sampler in cells:
        plan = compile_plan(sampler.name, 2, judged.family, config(judged))
        sampling = run(plan, guidance, cond, Noise(1, shape, batch(guidance)))
        (final,), (cost,) = drive(judged, [sampling])
        assert final.latents.shape == (1, *shape), (guidance, sampler.name)
        assert bool(final.latents.isfinite().all()), (guidance, sampler.name)
        needs = guidance.requires()
        assert (cost.classifier > 0) == needs.classifier, (guidance, sampler.name)
        assert cost.weak > 0 or not needs.weak, (guidance, sampler.name)
        assert (cost.grad > 0) == (guidance == Classifier(gradient="x_t")), (guidance, sampler.name)


def test_a_classifier_of_clean_pictures_is_not_asked_of_noisy_ones(judged: Model) -> None:
    found = problems(Classifier(gradient="noisy"), CARDS["ddim"], judged.family, judged.extras)
    assert any("needs a classifier of noisy pictures" in one for one in found)


def test_the_folder_says_what_the_loaded_model_is(model: Model, tmp_path: Path) -> None:
    model._pipeline.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    layout = read_layout(tmp_path)
    assert layout.pipeline == type(model._pipeline).__name__  # type: ignore[attr-defined]
    assert layout.factor == model.factor
    assert layout.extras == model.extras


def test_rows_are_independent(model: Model) -> None:
    first, second = model.encode(prompts(model)).conds
    x, conds = noise(model, 3), [first, second, first]
    together = model.denoise(x, levels(model), conds)
    assert together.dtype == torch.float32
    for i in range(3):
        alone = model.denoise(x[i : i + 1], levels(model)[i : i + 1], conds[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-4)


def test_the_condition_matters_and_is_made_once(model: Model) -> None:
    first, second, again = model.encode([*prompts(model), prompts(model)[0]]).conds
    assert first is again
    assert first.key != second.key
    if "unconditional" in model.extras:
        return
    x, level = noise(model, 1), levels(model)[1:2]
    assert float((model.denoise(x, level, [first]) - model.denoise(x, level, [second])).abs().max()) > 1e-6


def test_the_gradient_reaches_x_t_through_the_picture(model: Model) -> None:
    cond, x = model.encode(prompts(model)).conds[:1], noise(model, 1).requires_grad_()
    picture = model.decode(model.denoise(x, levels(model)[1:2], cond, grad=True), grad=True)
    (gradient,) = torch.autograd.grad(picture.square().sum(), x)
    assert float((gradient != 0).float().mean()) > 0.99
    assert not model.denoise(x, levels(model)[1:2], cond).requires_grad


def test_pictures_and_latents_have_the_shapes_of_each_other(model: Model) -> None:
    width, height = size(model)
    width += model.factor
    latents = torch.zeros(2, *model.latent_shape(width, height))
    pictures = model.decode(latents)
    assert pictures.shape == (2, 3, height, width)
    assert pictures.dtype == torch.float32
    assert model.encode_images(pictures).shape == latents.shape
    with pytest.raises(ValueError, match=f"multiples of {model.factor}, not {width + 1}x{height}"):
        model.latent_shape(width + 1, height)
