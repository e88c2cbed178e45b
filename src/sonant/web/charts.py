"""Charts as SVG, made on the server: they need no script, take the page's colours, and print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from markupsafe import Markup

_WIDTH, _HEIGHT = 240, 48
_GAP = 2


class ChartSeries(Protocol):
    """Values of one kind, in the order of time."""

    @property
    def tone(self) -> str:
        """A class of the style sheet, which gives the colour."""
        ...

    @property
    def values(self) -> Sequence[float]: ...


def bars(series: Sequence[ChartSeries], title: str) -> Markup:
    """Draw series of equal length as bars on top of each other, the first at the bottom.

    `title` says in words what the chart shows, for those who do not see it.
    """
    length = max((len(one.values) for one in series), default=0)
    totals = [sum(one.values[index] for one in series) for index in range(length)]
    unit = (_HEIGHT - 2) / (max(totals, default=0) or 1)
    step = _WIDTH / max(length, 1)
    shapes = [Markup('<line class="base" x1="0" y1="{0}" x2="{1}" y2="{0}"/>').format(_HEIGHT, _WIDTH)]
    for index in range(length):
        base = float(_HEIGHT)
        for one in series:
            if not one.values[index]:
                continue
            height = max(one.values[index] * unit, 1.0)
            base -= height
            shapes.append(
                Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                    one.tone, index * step, base, max(step - _GAP, 1), height
                )
            )
    frame = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" preserveAspectRatio="none">{}{}</svg>')
    described = Markup("<title>{}</title>").format(title)
    return frame.format(_WIDTH, _HEIGHT + 1, described, Markup("").join(shapes))
