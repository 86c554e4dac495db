"""The plot of sweep.sh: a panel a measure; a point a value, at the median, with the range."""
import html
import statistics

from measuring.results import figure

WIDTH, PANEL, LEFT, RIGHT, TOP = 720, 170, 70, 20, 40
STYLE = """
text { font: 12px sans-serif; fill: #14181c } .title { font: bold 15px sans-serif }
.axis { stroke: #c9ced4 } .range { stroke: #5f9bd8; stroke-width: 2 }
.line { fill: none; stroke: #5f9bd8; stroke-width: 1.5 } circle { fill: #1f5f9e }
"""


def panel(words, values, names, top):
    """The lines of SVG of one panel. Its scale begins at 0, so that heights are in proportion."""
    most = max(max(runs) for runs in values) or 1
    height = PANEL - 62
    step = (WIDTH - LEFT - RIGHT) / len(names)
    bottom = top + 24 + height

    def at(value):
        return bottom - height * value / most
    yield f'<text x="{LEFT}" y="{top + 12}">{html.escape(words)}</text>'
    for share in (0, 0.5, 1):
        level = at(most * share)
        yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level}" y2="{level}"/>'
        yield (f'<text x="{LEFT - 8}" y="{level + 4}" text-anchor="end">'
               f'{figure(most * share)}</text>')
    points = []
    for number, (name, runs) in enumerate(zip(names, values, strict=True)):
        x, y = LEFT + step * (number + 0.5), at(statistics.median(runs))
        points.append(f"{x:.1f},{y:.1f}")
        yield (f'<g><title>{html.escape(name)}: {figure(statistics.median(runs))} '
               f'({figure(min(runs))} to {figure(max(runs))})</title>'
               f'<line class="range" x1="{x:.1f}" x2="{x:.1f}" y1="{at(min(runs)):.1f}" '
               f'y2="{at(max(runs)):.1f}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>')
        yield (f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
               f'{html.escape(name)}</text>')
    yield f'<polyline class="line" points="{" ".join(points)}"/>'


def svg(title, names, panels):
    """The text of the file. `panels`: words and, for each name, the values of its runs."""
    height = TOP + PANEL * len(panels)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" role="img" aria-label="{html.escape(title)}">',
             f'<style>{STYLE}</style>',
             f'<rect width="{WIDTH}" height="{height}" fill="#fbfbfa"/>',
             f'<text class="title" x="{LEFT}" y="24">{html.escape(title)}</text>']
    for number, (words, values) in enumerate(panels):
        lines += panel(words, values, names, TOP + PANEL * number)
    return "\n".join(lines) + "\n</svg>\n"
