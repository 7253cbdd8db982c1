"""Compose: what a parameter means, a slider over it, and what the server says before anything runs."""

import re

import pytest
from playwright.async_api import Page, Response, expect

from tests.e2e.access import examine
from tests.e2e.browsing import MARKS, compared, stamp, tab_to
from tests.e2e.serving import Serving

pytestmark = MARKS


async def test_a_parameter_says_what_it_is_and_its_slider_is_the_same_value(
    page: Page, complaints: list[str]
) -> None:
    await page.goto("/")
    arm = page.get_by_role("group", name="Arm A")
    scale, slider = (arm.get_by_role(role, name="scale", exact=True) for role in ("spinbutton", "slider"))
    await expect(scale).to_have_accessible_description("w; 1 is the conditional prediction alone")
    await expect(arm.get_by_text("w; 1 is the conditional prediction alone")).to_be_visible()
    await expect(slider).to_have_attribute("aria-valuetext", "12")
    await tab_to(page, scale)
    await page.keyboard.press("Tab")
    await expect(slider).to_be_focused()
    await page.keyboard.press("ArrowRight")
    moved = float(await scale.input_value())
    assert 12 < moved < 14
    await expect(slider).to_have_attribute("aria-valuetext", f"{moved:g}")
    await scale.fill("3.25")
    await expect(slider).to_have_attribute("aria-valuetext", "3.25")
    await scale.fill("")
    await expect(slider).to_have_attribute("aria-valuetext", "4")
    await page.get_by_label("Method of arm A").select_option("fkc")
    particles = arm.get_by_role("slider", name="particles")
    await particles.press("ArrowLeft")
    await expect(arm.get_by_role("spinbutton", name="particles")).to_have_value("3")
    assert not await examine(page, name="compose")
    assert all("422" in one for one in complaints)  # FKC does not run with the model's own sampler
    complaints.clear()


async def test_a_slider_reaches_every_value_of_its_range_and_none_beyond(page: Page) -> None:
    kinds = [
        {"type": "number", "minimum": 0, "maximum": 100, "usual": 4},
        {"type": "number", "minimum": 0, "maximum": 1, "usual": 0},
        {"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 1, "usual": -0.5},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1000, "usual": 1},
        {"type": "integer", "minimum": 1, "maximum": 64, "usual": 4},
        {"type": "number", "minimum": 0, "usual": 1},
    ]
    await page.goto("/library")
    told = await page.evaluate(
        """async (kinds) => {
          const { slider } = await import("/static/lib/schema.js");
          return kinds.map(({ usual, ...kind }) => {
            const one = slider(kind, usual);
            if (!one) return null;
            const places = Array.from({ length: one.max - one.min + 1 }, (_, i) => one.min + i);
            const values = places.map(one.read);
            return { values, back: values.map(one.at), places };
          });
        }""",
        kinds,
    )
    *sliders, unbounded = told
    assert unbounded is None
    for one in sliders:
        assert one["back"] == one["places"]
        assert one["values"] == sorted(set(one["values"]))
    ends = [(one["values"][0], one["values"][-1]) for one in sliders]
    assert ends[0] == (0, 100)
    assert ends[1] == (0, 1)
    assert ends[2] == pytest.approx((-0.98, 0.98))
    assert 0 < ends[3][0] < 0.01
    assert ends[3][1] == 1000
    assert ends[4] == (1, 64)
    assert sliders[0]["values"][34] == pytest.approx(4, rel=0.05)  # the usual value lies in the middle third


async def test_each_prompt_tells_how_long_it_is_and_what_is_read_of_it(page: Page) -> None:
    await page.goto("/")
    lines = page.get_by_role("region", name="How long each prompt is").get_by_role("listitem")
    prompts = page.get_by_label("Prompts, one a line")
    await page.get_by_label("Model", exact=True).select_option("toy")
    await prompts.fill("a {red|blue} apple\n" + "word " * 75 + "and its end")
    await expect(lines).to_have_count(3)
    await expect(lines.nth(1)).to_contain_text("a blue apple 3 of 75 tokens")
    await expect(lines.nth(2)).to_contain_text("78 of 75 tokens")
    await expect(lines.nth(2)).to_contain_text("Too long: “and its end” is not read.")
    await expect(prompts).to_have_accessible_description(
        "3 prompts; {a|b} makes two of one; 1 longer than the model reads at once"
    )
    assert not await examine(page, name="a prompt too long")
    await prompts.fill("a red apple")
    await expect(lines).to_have_text(["a red apple 3 of 75 tokens"])


async def test_the_cost_says_how_much_the_storage_will_keep(page: Page, service: Serving) -> None:
    compared(service.url(), model="toy", prompts=[stamp()])
    await page.goto("/")
    cost = page.locator(".cost p").first
    for model, measured in (("endless", False), ("toy", True)):

        def asked(answer: Response, model: str = model) -> bool:
            return answer.url.endswith("/estimate") and f'"{model}"' in (answer.request.post_data or "")

        async with page.expect_response(asked) as answer:
            await page.get_by_label("Model", exact=True).select_option(model)
        disk = (await (await answer.value).json())["disk"]
        assert disk["measured"] == measured
        size = disk["bytes"] / 1e3
        told = f"{size:.3g} kB" if size < 1e3 else f"{size / 1e3:.3g} MB"
        words = f"; about {told} on disk"
        words += "" if measured else ", were they not compressed"
        await expect(cost).to_have_text(re.compile(f"{re.escape(words)}$"))
