"""A comparison as one HTML file with everything in it: pictures, metrics, paired differences."""

from __future__ import annotations

import base64
import statistics
from html import escape

from app.comparison.run import Cell, Comparison
from app.comparison.stats import Difference, paired_difference
from app.scores import SCORES
from app.storage.png import convert

LARGE_BYTES = 100_000
"""Larger PNGs are put in as WebP, so that the file stays one that can be mailed."""
FEW = 10
"""Below so many units a bootstrap interval is too narrow, which is said."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
td { font-variant-numeric: tabular-nums }
.scroll { overflow-x: auto }
img { display: block; min-width: 96px; max-width: 20rem; width: 100% }
small, .note { color: #555 }
"""


def report(found: Comparison) -> str:
    """The whole page. What people wrote is escaped; nothing is loaded from anywhere."""
    arms = [arm.label for arm in found.arms]
    what = ", ".join(f"{name} {value}" for name, value in found.resolved.items())
    notes = "".join(f"<li>{escape(text)}</li>" for text in dict.fromkeys(found.failures + found.warnings))
    title = f"Lodestar: {' vs '.join(arms)}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>{_count(len(found.prompts), "prompt")}, {_count(len(found.seeds), "seed")} each, {escape(what)}.
Every arm starts from the same noise. The first arm, <b>{escape(arms[0])}</b>, is the baseline.</p>
{f"<h2>What went wrong or should be known</h2><ul>{notes}</ul>" if notes else ""}
<h2>Metrics</h2>{_means(found, arms)}
<h2>Paired differences to {escape(arms[0])}</h2>{_differences(found, arms)}
<h2>Pictures</h2>{_pictures(found, arms)}
</body></html>
"""


def _means(found: Comparison, arms: list[str]) -> str:
    rows: list[list[str]] = []
    for name in _metrics(found):
        cells = [
            _mean([cell.metrics[name] for cell in _of(found, arm) if name in cell.metrics]) for arm in arms
        ]
        rows.append([_title(name), *cells])
    costs = [sorted({cell.nfe for cell in _of(found, arm)}) for arm in arms]
    rows.append(["Network evaluations per picture", *(" to ".join(map(str, cost)) or "-" for cost in costs)])
    differ = len({tuple(cost) for cost in costs}) > 1
    note = "The arms cost different numbers of network evaluations: compare them with that in mind. "
    return _table(["mean (standard deviation)", *map(escape, arms)], rows) + (
        f'<p class="note">{note}</p>' if differ else ""
    )


def _differences(found: Comparison, arms: list[str]) -> str:
    if len(arms) < 2:
        return '<p class="note">There is one arm only.</p>'
    rows: list[list[str]] = []
    seen: list[Difference] = []
    for name in _metrics(found):
        row = [_title(name)]
        for arm in arms[1:]:
            pairs = _pairs(found, name, arms[0], arm)
            if any(pairs):
                seen.append(paired_difference(pairs))
                row.append(_told(seen[-1]))
            else:
                row.append("-")
        rows.append(row)
    table = _table(["arm minus baseline [95 %]", *map(escape, arms[1:])], rows)
    if not seen:
        return table
    least = min(seen, key=lambda one: one.n)
    note = f"Intervals: bootstrap over {least.over}, n = {least.n} at least. "
    if least.over == "seeds":
        note += "With one prompt they say nothing of other prompts. "
    if least.n < FEW:
        note += f"With fewer than {FEW} they are too narrow. "
    if len(seen) > 1:
        note += f"Of {len(seen)} intervals at 95 %, some leave out 0 by chance alone."
    return f'{table}<p class="note">{note}</p>'


def _pictures(found: Comparison, arms: list[str]) -> str:
    parts: list[str] = []
    for prompt in found.prompts:
        rows: list[list[str]] = []
        for seed in found.seeds:
            cells = [found.cells.get((prompt, seed, arm)) for arm in arms]
            rows.append([f"seed {seed}", *map(_picture, cells)])
        parts.append(f"<h3>{escape(prompt) or '(empty prompt)'}</h3>{_table(['', *map(escape, arms)], rows)}")
    return "".join(parts)


def _picture(cell: Cell | None) -> str:
    if cell is None:
        return "not made"
    kind, data = "png", cell.png
    if len(data) > LARGE_BYTES:
        kind, data = "webp", convert(data, "webp")
    told = ", ".join(f"{name} {value:.3g}" for name, value in cell.metrics.items())
    alt = escape(f"{cell.prompt}, {cell.arm}, seed {cell.seed}", quote=True)
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{alt}" src="{uri}"><small>{escape(told)}</small>'


def _of(found: Comparison, arm: str) -> list[Cell]:
    return [cell for cell in found.cells.values() if cell.arm == arm]


def _metrics(found: Comparison) -> list[str]:
    return list(dict.fromkeys(name for cell in found.cells.values() for name in cell.metrics))


def _pairs(found: Comparison, name: str, base: str, arm: str) -> list[list[float]]:
    """Arm minus baseline, prompt by prompt, where both were made."""
    pairs: list[list[float]] = []
    for prompt in found.prompts:
        both = [
            (found.cells.get((prompt, seed, arm)), found.cells.get((prompt, seed, base)))
            for seed in found.seeds
        ]
        pairs.append(
            [
                ours.metrics[name] - theirs.metrics[name]
                for ours, theirs in both
                if ours and theirs and name in ours.metrics and name in theirs.metrics
            ]
        )
    return pairs


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ({statistics.stdev(values):.3g})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4g}{spread}"


def _told(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.4g} (one pair: no interval)"
    text = f"{difference.mean:+.4g} [{difference.low:+.4g}, {difference.high:+.4g}]"
    return f"<b>{text}</b>" if difference.clear else f"{text}<br><small>no clear difference</small>"


def _title(name: str) -> str:
    score = SCORES.get(name)
    unit = f"<br><small>{escape(score.unit)}</small>" if score and score.unit else ""
    return f"{escape(score.title if score else name)}{unit}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
