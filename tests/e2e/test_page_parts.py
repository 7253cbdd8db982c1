"""What the page is made of: budgets, licences, and its pure functions against Python."""

import hashlib
import json
import re

import numpy as np
import pytest
from playwright.async_api import Page, expect

from app.web import WEB
from benchmarks.page import TOLD, snapshot, steps
from tests.e2e.browsing import in_browser

STATIC = WEB / "static"
OWN = [path for path in STATIC.glob("**/*.js") if path.parent.name != "vendor"]


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004: 11 x 11 Gaussian window, sigma 1.5, over BT.601 luma, windows inside the picture."""
    side = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(side, side) / side.sum() ** 2
    u, v = (np.lib.stride_tricks.sliding_window_view(one @ [0.299, 0.587, 0.114], (11, 11)) for one in (a, b))

    def mean(values: np.ndarray) -> np.ndarray:
        return (values * window).sum(axis=(-2, -1))

    mu, mv = mean(u), mean(v)
    uu, vv, uv = mean(u * u) - mu**2, mean(v * v) - mv**2, mean(u * v) - mu * mv
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mu * mv + c1) * (2 * uv + c2)) / ((mu**2 + mv**2 + c1) * (uu + vv + c2))).mean())


def test_the_page_stays_small_and_loads_nothing_from_elsewhere() -> None:
    assert sum(len(path.read_text().splitlines()) for path in OWN) < 4000
    for path in [*OWN, STATIC / "index.html", STATIC / "style.css"]:
        assert not re.search(r"""(src|href|from|url\()\s*=?\s*["']?https?:""", path.read_text()), path
        assert "innerHTML" not in path.read_text()


def test_what_is_vendored_is_named_licensed_and_unchanged() -> None:
    told = json.loads((STATIC / "vendor" / "versions.json").read_text())
    bundle = (STATIC / "vendor" / "ui.js").read_bytes()
    assert hashlib.sha256(bundle).hexdigest() == told["sha256"]
    licences = (STATIC / "vendor" / "LICENSES.txt").read_text()
    assert all(f"{name} {version}" in licences for name, version in told["packages"].items())
    assert b"eval(" not in bundle


@in_browser
async def test_the_first_load_is_below_150_kb_and_policy_is_strict(page: Page) -> None:
    sizes = dict[str, int]()

    async def weigh(response) -> None:
        if "/v1/" not in response.url:
            sizes[response.url] = len(await response.body())

    page.on("response", weigh)
    answer = await page.goto("/")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    await page.wait_for_load_state("networkidle")
    assert sum(sizes.values()) < 150_000, sizes


@in_browser
async def test_differences_equal_numpys(page: Page) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (2, 40, 30, 4))
    a[..., 3] = b[..., 3] = 255
    await page.goto("/library")
    told = await page.evaluate(
        """async ([a, b]) => {
          const { map, numbers, oklab } = await import("/static/lib/difference.js");
          const { ssim } = await import("/static/lib/ssim.js");
          const all = {};
          for (const kind of ["rgb", "oklab", "lightness"]) {
            const values = map(kind, a, b);
            all[kind] = { ...numbers(values, a, b), first: [...values.slice(0, 5)] };
          }
          const [white, red] = [oklab(255, 255, 255), oklab(255, 0, 0)];
          const small = ssim(a.slice(0, 120), b.slice(0, 120), 30);
          return { ...all, white, red, ssim: ssim(a, b, 30), same: ssim(a, a, 30), small };
        }""",
        [a.ravel().tolist(), b.ravel().tolist()],
    )
    rgb = np.abs(a[..., :3] - b[..., :3]).mean(axis=-1).ravel()
    assert told["rgb"]["first"] == pytest.approx(rgb[:5].tolist(), rel=1e-6)
    assert told["rgb"]["mean"] == pytest.approx(rgb.mean(), rel=1e-6)
    assert told["rgb"]["p99"] == pytest.approx(np.percentile(rgb, 99, method="inverted_cdf"), rel=1e-6)
    mse = ((a[..., :3] - b[..., :3]) ** 2).mean()
    assert told["rgb"]["psnr"] == pytest.approx(10 * np.log10(255**2 / mse))
    assert told["white"] == pytest.approx([1, 0, 0], abs=1e-4)
    assert told["red"] == pytest.approx([0.6280, 0.2249, 0.1258], abs=1e-3)
    assert told["ssim"] == pytest.approx(ssim(a[..., :3], b[..., :3]), rel=1e-9)
    assert told["same"] == pytest.approx(1)
    assert told["small"] is None
    assert told["oklab"]["mean"] > abs(told["lightness"]["mean"]) > 0


@in_browser
async def test_what_is_written_in_the_form_is_read(page: Page) -> None:
    await page.goto("/library")
    told = await page.evaluate(
        """async () => {
          const { prompts, seeds, sweep } = await import("/static/lib/draft.js");
          const { ticks } = await import("/static/widgets/chart.js");
          const { csv } = await import("/static/lib/save.js");
          const { column } = await import("/static/lib/table.js");
          return {
            prompts: prompts(" a {red|blue} {x|y}\\n\\na red x "),
            seeds: ["1, 2,5-7", "x", "3-1", ""].map(seeds),
            sweep: ["1-10 [4]", "1-10 (+3)", "1, 4 7", "a", "1-2 [99]"].map(sweep),
            ticks: ticks(0, 19.7),
            csv: csv([['a"b', null], [1, "x,y"]]),
            table: column('id,Prompt\\r\\n1,"a red, ""round""\\napple"\\n2,pear\\n'),
            headless: column("a dot,1\\na line,2", true),
            plain: column("a red, round apple\\na pear"),
          };
        }"""
    )
    assert told == {
        "prompts": ["a red x", "a red y", "a blue x", "a blue y"],
        "seeds": [[1, 2, 5, 6, 7], None, None, None],
        "sweep": [[1, 4, 7, 10], [1, 4, 7, 10], [1, 4, 7], None, None],
        "ticks": [0, 5, 10, 15],
        "csv": '"a""b",\r\n1,"x,y"',
        "table": 'a red, "round" apple\npear',
        "headless": "a dot\na line",
        "plain": None,
    }


@in_browser
async def test_a_batch_of_events_changes_its_cells_alone(page: Page) -> None:
    """What keeps a grid of 200 cells within its budget; `benchmarks.page` measures the milliseconds."""
    await page.add_init_script(TOLD)
    await page.route("**/v1/comparisons/grid", lambda route: route.fulfill(json=snapshot()))
    await page.goto("/compare/grid")
    await expect(page.locator("table.grid")).to_be_visible()
    touched = [0, 7, 8, 199]
    for step in (1, 2):
        told = await page.evaluate("(events) => tell(events)", steps(touched, step))
        assert told["changed"] == touched
    await expect(page.locator("[data-cell='7']")).to_contain_text("step 2 of 50")
