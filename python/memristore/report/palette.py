"""Colours by role, and figures as SVG whose colours follow the reader's light or dark scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, Final

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Each role in a light and a dark scheme. The light ones are drawn with; in the page they become CSS variables, so no
#: two may be the same. Hues after Okabe and Ito (2008), which people with colour-blindness tell apart.
ROLES: Final[dict[str, tuple[str, str]]] = {
    "ink": ("#1c2024", "#e9ebee"),
    "muted": ("#5b6470", "#a5adb8"),
    "line": ("#d9dde3", "#343a42"),
    "paper": ("#fdfdfe", "#16191d"),
    "winner": ("#c2410c", "#ff9d5c"),
    "recipe": ("#0369a8", "#5ab2f2"),
    "baseline": ("#6b7482", "#9aa4b2"),
    "rival": ("#7c4dab", "#c4a1ee"),
    "limit": ("#0b7a53", "#48cf9b"),
    "shade": ("#f3e9e4", "#2a211d"),
    "s0": ("#0a6fb3", "#62b6f0"),
    "s1": ("#cf5a10", "#f79a55"),
    "s2": ("#0c8a63", "#3fc796"),
    "s3": ("#a8559a", "#e09ad2"),
    "s4": ("#b7860b", "#e3bd54"),
    "s5": ("#4b5fc0", "#93a3f2"),
    "s6": ("#8a5a44", "#c99b85"),
    "s7": ("#3b8ea5", "#7fcbdf"),
    "s8": ("#5d7f1f", "#a9cc63"),
    "s9": ("#a3354f", "#ef8fa8"),
    "s10": ("#7a7f88", "#b5bbc4"),
}
LIGHT: Final = {role: pair[0] for role, pair in ROLES.items()}
SERIES: Final = tuple(LIGHT[f"s{i}"] for i in range(11))
#: CSS pixels per inch, and points per CSS pixel.
_PIXELS: Final = 96.0
POINT: Final = 72.0 / _PIXELS

_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
    "svg.hashsalt": "memristore",
    "font.family": "sans-serif",
    "font.size": 12 * POINT,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 11.5 * POINT,
    "axes.titlelocation": "left",
    "axes.titlesize": 12 * POINT,
    "axes.titlecolor": LIGHT["muted"],
}


def drawn(draw: Callable[[Figure], None], width: int, height: int) -> Figure:
    """Make a figure of so many CSS pixels and draw on it in the report's style."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / _PIXELS, height / _PIXELS), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.draw_without_rendering()
    return figure


def inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """Return a figure as an SVG element for a page: text as text, colours as CSS variables, ids of its own.

    Parameters
    ----------
    figure : Figure
    prefix : str
        Goes before every id, so that figures of one page do not use each other's.
    label : str
        What a screen reader says.
    """
    out = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # Only what is referred to keeps its name: the others are many, and not all different.
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    names = {name for pair in used for name in pair if name}
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in names else "", text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{prefix}-\2"', text)
    # Fonts of the page: widths were measured with a wider one, so nothing runs over.
    text = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font: (bold|[0-9]+) ([0-9.]+)px [^;\"]*", r"font-weight: \1; font-size: \2px", text)
    for role, (light, _) in ROLES.items():
        text = text.replace(light, f"var(--{role})")
    head = re.match(r"<svg[^>]*>", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    if head is None or box is None:
        raise RuntimeError("matplotlib wrote an SVG without a head")
    start = (
        f'<svg viewBox="{box[1]}" role="img" aria-label="{_escaped(label)}" xmlns="http://www.w3.org/2000/svg"'
        ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"\n\s*", "\n", start + text[head.end() :]).strip()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
