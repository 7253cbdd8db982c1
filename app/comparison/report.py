"""A comparison as one HTML file with everything in it: pictures, metrics, paired differences."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape

from app.comparison.cells import Cell
from app.comparison.distribution import ArmApart, Distribution, Seen, SpaceResult, distribution
from app.comparison.results import ArmMean, DifferenceAnswer, MetricResult, Results, results
from app.comparison.spec import Comparison
from app.comparison.store import Vote
from app.comparison.votes import ArmStanding, VoteResult
from app.storage.png import convert

Pictures = Mapping[int, bytes]
"""Cell index -> its PNG."""
LARGE_BYTES = 100_000
"""Larger PNGs are put in as WebP, so that the file stays one that can be mailed."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
td { font-variant-numeric: tabular-nums }
.scroll { overflow-x: auto }
img { display: block; min-width: 96px; max-width: 20rem; width: 100% }
small, .note { color: #555 }
pre { overflow-x: auto; background: #f4f4f3; padding: 1rem; font-size: .85rem }
"""


def report(
    found: Comparison, cells: Sequence[Cell], votes: Sequence[Vote], pictures: Pictures, seen: Seen
) -> str:
    """The whole page. What people wrote is escaped; nothing is loaded from anywhere."""
    arms = [arm.label for arm in found.arms]
    said = results(found, cells, votes)
    notes = "".join(f"<li>{escape(text)}</li>" for text in _troubles(found, cells))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Lodestar: {escape(found.title)}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>
<h1>{escape(found.title)}</h1>
<p>{_count(len(found.prompts), "prompt")}, {_count(len(found.seeds), "seed")} each, {escape(_setting(found))}.
Every arm starts from the same noise. The first arm, <b>{escape(arms[0])}</b>, is the baseline.</p>
{f"<h2>What went wrong or should be known</h2><ul>{notes}</ul>" if notes else ""}
<h2>Metrics</h2>{_means(said, arms)}
<h2>Paired differences to {escape(arms[0])}</h2>{_differences(said, arms)}
{_sets(found, distribution(found, cells, seen))}
{f"<h2>Votes</h2>{_votes(found, said.votes)}" if said.votes.n else ""}
<h2>Pictures</h2>{_pictures(found, cells, pictures)}
<h2>What ran</h2><pre>{escape(json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False))}</pre>
</body></html>
"""


def _setting(found: Comparison) -> str:
    shared = found.shared
    samplers = " or ".join(dict.fromkeys(arm.sampler for arm in found.arms))
    steps = " or ".join(dict.fromkeys(str(arm.steps) for arm in found.arms))
    size = f"width {shared.width}, height {shared.height}"
    return f"model {shared.model}, sampler {samplers}, steps {steps}, {size}"


def _troubles(found: Comparison, cells: Sequence[Cell]) -> list[str]:
    """Why pictures are missing, and what the workers warned of; each once."""
    texts = list[str]()
    for cell in cells:
        arm, prompt, record = found.arms[cell.place.arm].label, found.prompts[cell.place.prompt], cell.record
        if record is None or record.result is None:
            reason = f": {record.error.message}" if record and record.error else ""
            texts.append(f"{arm}, {prompt!r}: {record.status if record else 'missing'}{reason}")
        else:
            texts += [f"{arm}: {text}" for text in record.result.warnings]
    return list(dict.fromkeys(texts))


def _means(said: Results, arms: list[str]) -> str:
    rows = [[_title(one), *(_mean(arm) for arm in one.arms)] for one in said.metrics]
    costs = [
        " to ".join(map(str, {min(one.nfe): 0, max(one.nfe): 0})) if one.nfe else "-" for one in said.cost
    ]
    rows.append(["Network evaluations per picture", *costs])
    seconds = [f"{one.seconds:.3g}" if one.seconds is not None else "-" for one in said.cost]
    rows.append(["Seconds of denoising", *seconds])
    return _table(["mean (standard deviation)", *map(escape, arms)], rows)


def _differences(said: Results, arms: list[str]) -> str:
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in said.notes)
    if len(arms) < 2:
        return f'<p class="note">There is one arm only.</p>{notes}'
    rows = [[_title(one), *(_told(difference) for difference in one.differences[1:])] for one in said.metrics]
    return _table(["arm minus baseline [95 %]", *map(escape, arms[1:])], rows) + notes


def _sets(found: Comparison, told: Distribution) -> str:
    """What was asked for of the arms' pictures as sets."""
    arms = [arm.label for arm in found.arms]
    return "".join(_set(space, arms) for space in told.spaces if space.name in found.shared.metrics)


def _set(space: SpaceResult, arms: list[str]) -> str:
    """The arms' pictures as sets, in one kind of features."""
    head = f"<h2>The pictures as sets: {escape(space.title)}</h2>"
    if space.unavailable is not None or space.scorer is None:
        return f'{head}<p class="note">unavailable: {escape(space.unavailable or "")}</p>'
    baseline = escape(arms[0])
    rows = [
        ["Diversity within a prompt", *(_number(arm.diversity) for arm in space.arms)],
        [f"Diversity, minus {baseline} [95 %]", *(_told(one) for one in space.differences)],
        [f"Distance to the same cell of {baseline}", *(_number(one and one.moved) for one in space.apart)],
    ]
    if space.least is not None:
        rows.append([f"KID to {baseline} [95 %]", *(_kid(one) for one in space.apart)])
        rows.append([f"FD to {baseline}", *(_number(one and one.fd) for one in space.apart)])
    by = f"By {space.scorer.name}, SHA-256 {space.scorer.sha256[:16]}. "
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in [by + space.unit, *space.notes])
    return head + _table(["", *map(escape, arms)], rows) + notes


def _kid(one: ArmApart | None) -> str:
    if one is None or one.kid is None:
        return "-"
    return f"{one.kid:.3g} [{one.kid_low:.3g}, {one.kid_high:.3g}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _votes(found: Comparison, votes: VoteResult) -> str:
    head = f"<p>{_count(votes.n, 'vote')} of {votes.planned} planned, by {_count(votes.voters, 'voter')}.</p>"
    lines = "".join(f"<li>{escape(pair.text)}</li>" for pair in votes.pairs)
    if not votes.arms:
        return f'{head}<p class="note">Below {votes.few} votes there is no ranking.</p><ul>{lines}</ul>'
    ranks = "".join(
        f"<li>{escape(arm.label)}: rank {_count_ranks(standing)}</li>"
        for arm, standing in zip(found.arms, votes.arms, strict=True)
    )
    return f"{head}<ul>{ranks}</ul><ul>{lines}</ul>"


def _count_ranks(standing: ArmStanding) -> str:
    best, worst = standing.best_rank, standing.worst_rank
    return str(best) if best == worst else f"{best} to {worst}"


def _pictures(found: Comparison, cells: Sequence[Cell], pictures: Pictures) -> str:
    parts = list[str]()
    at = {(cell.place.prompt, cell.place.seed, cell.place.arm): cell for cell in cells}
    for number, prompt in enumerate(found.prompts):
        rows = [
            [
                f"seed {value}",
                *(_picture(found, at[number, seed, arm], pictures) for arm in range(len(found.arms))),
            ]
            for seed, value in enumerate(found.seeds)
        ]
        head = ["", *(escape(arm.label) for arm in found.arms)]
        parts.append(f"<h3>{escape(prompt) or '(empty prompt)'}</h3>{_table(head, rows)}")
    return "".join(parts)


def _picture(found: Comparison, cell: Cell, pictures: Pictures) -> str:
    data = pictures.get(cell.place.index)
    if data is None:
        return "not made"
    kind = "png"
    if len(data) > LARGE_BYTES:
        kind, data = "webp", convert(data, "webp")
    told = ", ".join(f"{name} {value:.3g}" for name, value in cell.metrics.items())
    place = cell.place
    alt = f"{found.prompts[place.prompt]}, {found.arms[place.arm].label}, seed {found.seeds[place.seed]}"
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{escape(alt, quote=True)}" src="{uri}"><small>{escape(told)}</small>'


def _mean(arm: ArmMean) -> str:
    if arm.mean is None:
        return "-"
    return f"{arm.mean:.4g}" + (f" ({arm.deviation:.3g})" if arm.deviation is not None else "")


def _told(difference: DifferenceAnswer | None) -> str:
    if difference is None:
        return "-"
    if difference.clear:
        return f"<b>{difference.text}</b>"
    return difference.text.replace(": no clear difference", "<br><small>no clear difference</small>")


def _title(one: MetricResult) -> str:
    by = [f"{scorer.name}, SHA-256 {scorer.sha256[:16]}" for scorer in one.scorers]
    told = "".join(f"<br><small>{escape(text)}</small>" for text in [one.unit, *by] if text)
    return f"{escape(one.title)}{told}"


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
