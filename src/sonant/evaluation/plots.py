"""Draw the plots of a report as SVG with matplotlib (extra `evaluate`).

Ink, grid and paper are CSS variables of the page that holds them, so that one drawing serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from sonant.errors import SetupError
from sonant.evaluation import metrics
from sonant.evaluation.figures import THRESHOLDS, Result, nominal_far
from sonant.evaluation.metrics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Unique colours in matplotlib's output, and the CSS that replaces them.
_INK, _GRID = "#010203", "#040506"
_CSS = {_INK: "var(--ink)", _GRID: "var(--grid)"}
_COLOURS = ("#2f7fe0", "#e0731a", "#12986b", "#a457d6", "#d0435b", "#7a8794")
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (1, 1)), "-")
_GENUINE, _IMPOSTOR = _COLOURS[0], _COLOURS[1]

_DET_TICKS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
_POINTS = 400
_BINS = 50
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sonant",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
}


def need_matplotlib() -> None:
    """Raise SetupError, which names the missing package, unless plots can be drawn."""
    try:
        import matplotlib.backends.backend_svg  # noqa: F401
    except ImportError:
        raise SetupError(
            "an HTML report needs matplotlib: `pip install 'sonant[evaluate]'`; text and JSON need nothing"
        ) from None


def det_plot(results: Sequence[Result], labels: Sequence[str]) -> str:
    """Draw FMR against FNMR on probit axes, one curve per result; the lower left is better."""

    def draw(axes: Axes) -> None:
        lowest = min(1 / max(1, min(result.genuine, result.impostor * 1.0)) for result in results)
        floor = max(_DET_TICKS[0], min(0.001, lowest))
        worst = []
        for index, (result, label) in enumerate(zip(results, labels, strict=True)):
            curve = metrics.det(*result.scores(result.outcome.raw))
            x, y = _corners(curve)
            worst.append(float(np.interp(-floor, -curve.fmr, curve.fnmr)))
            style = {"color": _COLOURS[index % len(_COLOURS)], "linestyle": _DASHES[index % len(_DASHES)]}
            axes.plot(_probit(x, floor), _probit(y, floor), linewidth=1.8, label=label, **style)
            rate = _probit(np.atleast_1d(metrics.equal_error_rate(curve)), floor)
            axes.plot(rate, rate, "o", markersize=5, color=style["color"])
        # Where false matches are rarest, more than half may be rejected: leave room for that on both axes.
        highest = min(0.98, max(0.5, *worst))
        ticks = [tick for tick in _DET_TICKS if floor <= tick <= highest]
        places = _probit(np.array(ticks), floor)
        edges = (_probit(np.array([floor]), floor)[0], _probit(np.array([highest]), floor)[0])
        names = [f"{100 * tick:g}" for tick in ticks]
        axes.set_xlim(*edges)
        axes.set_ylim(*edges)
        axes.set_xticks(places, names)
        axes.set_yticks(places, names)
        axes.plot(edges, edges, color=_GRID, linewidth=1, zorder=0)
        axes.set_xlabel("false match rate, %")
        axes.set_ylabel("false non-match rate, %")
        axes.legend(loc="upper right")

    return _svg(draw, width=5.4, height=5.0)


def histogram(result: Result) -> str:
    """Draw histograms of genuine and impostor scores, with the thresholds if the scores are calibrated."""

    def draw(axes: Axes) -> None:
        values = result.outcome.raw if result.outcome.score is None else result.outcome.score
        genuine, impostor = result.scores(values)
        both = np.concatenate([genuine, impostor])
        edges = np.linspace(float(both.min()), float(both.max()) + 1e-9, _BINS + 1)
        for scores, name, colour in ((impostor, "impostor", _IMPOSTOR), (genuine, "genuine", _GENUINE)):
            share = 100 * np.histogram(scores, edges)[0] / len(scores)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(share, edges, color=colour, linewidth=1.4, label=f"{name} ({len(scores):,})")
        if result.outcome.score is not None:
            for limit in THRESHOLDS:
                axes.axvline(limit, color=_INK, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlabel("score" if result.outcome.score is not None else "similarity (not calibrated)")
        axes.set_ylabel("comparisons, %")
        axes.set_ylim(bottom=0)
        _legend_above(axes)

    return _svg(draw, width=5.4, height=3.1)


def calibration_plot(result: Result) -> str:
    """Draw the promised FAR against the measured FMR; without calibration, rates over the threshold."""
    if result.outcome.score is None:
        return _rates_plot(result)

    def draw(axes: Axes) -> None:
        assert result.outcome.score is not None
        _, impostor = result.scores(result.outcome.score)
        scores = np.linspace(50, 100, 201)
        promised = np.array([nominal_far(score) for score in scores])
        measured = np.array([float(metrics.match_rate(impostor, score)) for score in scores])
        # An error rate is known within about 30 % from 30 errors on, and not at all below one.
        firm = measured * len(impostor) >= metrics.RULE_OF_30
        some = measured > 0
        axes.plot(promised, promised, color=_INK, linewidth=1, linestyle=(0, (3, 3)), label="as promised")
        axes.plot(
            promised[some],
            measured[some],
            color=_COLOURS[0],
            linewidth=1.2,
            alpha=0.6,
            label="measured, fewer than 30 errors",
        )
        axes.plot(promised[firm], measured[firm], color=_COLOURS[0], linewidth=2.4, label="measured")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(0.1, 1e-5)
        axes.set_ylim(0.3 / len(impostor), 0.5)
        marks = [50, *THRESHOLDS, 100]
        axes.set_xticks(
            [nominal_far(mark) for mark in marks],
            [f"{_percent(nominal_far(mark))}\n{mark}" for mark in marks],
        )
        ticks = [10.0**power for power in range(-5, 0) if 10.0**power >= 0.3 / len(impostor)]
        axes.set_yticks(ticks, [_percent(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("FAR promised, %, and the score that promises it")
        axes.set_ylabel("FMR measured, %")
        axes.legend(loc="upper right")

    return _svg(draw, width=5.4, height=3.6)


def _rates_plot(result: Result) -> str:
    def draw(axes: Axes) -> None:
        curve = metrics.det(*result.scores(result.outcome.raw))
        inner = slice(0, -1)  # the last threshold is infinite
        for rates, name, colour in (
            (curve.fmr, "FMR", _IMPOSTOR),
            (curve.fnmr, "FNMR", _GENUINE),
        ):
            chosen = _thinned(len(curve.threshold) - 1)
            axes.plot(
                curve.threshold[inner][chosen],
                100 * rates[inner][chosen],
                color=colour,
                linewidth=1.8,
                label=name,
            )
        axes.set_yscale("symlog", linthresh=0.1, linscale=0.4)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
        axes.set_xlabel("threshold on the similarity")
        axes.set_ylabel("errors, %")
        _legend_above(axes)

    return _svg(draw, width=5.4, height=3.1)


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.4)


def _svg(draw: Any, *, width: float, height: float) -> str:
    """Draw on new axes and return an SVG element for use inside HTML."""
    import matplotlib
    from matplotlib.backends import backend_svg
    from matplotlib.figure import Figure

    canvas: Any = backend_svg.FigureCanvasSVG  # has no types of its own
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        out = io.StringIO()
        canvas(figure).print_svg(out, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Several drawings share a page, so unused ids would occur more than once.
    text = re.sub(r'(<g) id="[a-z]+[0-9a-z.]*_\d+"', r"\1", text)
    for colour, css in _CSS.items():
        text = text.replace(colour, css)
    return text.strip()


def _corners(curve: metrics.Det) -> tuple[Floats, Floats]:
    """Remove points of the DET on a straight line between two others, and thin it for drawing."""
    x, y = curve.fmr, curve.fnmr
    turns = (
        np.flatnonzero(
            (np.diff(x[:-1]) != 0) & (np.diff(y[1:]) != 0) | (np.diff(y[:-1]) != 0) & (np.diff(x[1:]) != 0)
        )
        + 1
    )
    chosen = np.concatenate([[0], turns, [len(x) - 1]])
    chosen = chosen[_thinned(len(chosen))]
    return x[chosen], y[chosen]


def _thinned(count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).astype(np.intp))


def _probit(rates: Floats, floor: float) -> Floats:
    """Convert rates to normal quantiles; those under the floor lie just outside the axes."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(min(max(rate, floor / 2), 0.999)) for rate in rates.tolist()])


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g}"
