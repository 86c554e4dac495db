"""A flame graph as SVG: one file, which fetches nothing.

Root below, leaves above; a frame is as wide as its share. Point at one to read its name and share,
click to enlarge it, click the root or press Escape to see all, and Tab and Enter do it by keyboard.
"""
import html
import re

WIDTH, ROW, TOP, SIDE = 1200, 17, 58, 10
NARROWEST = 0.25  # pixels; what is narrower is left out
CHARACTER = 6.6  # pixels of the font below
COLOURS = {"thread": "#b9c0c8", "kernel": "#e8a15b", "ours": "#5f9bd8", "library": "#8cc28c"}
LEGEND = (("ours", "Pulsewheel"), ("kernel", "kernel"), ("library", "libraries"))
STYLE = """
text { font: 11px ui-monospace, monospace; fill: #14181c; pointer-events: none }
.title { font: bold 15px sans-serif } .words { font: 12px sans-serif }
rect.frame { stroke: #fff; stroke-width: .6 } g.f { cursor: pointer }
g.f:hover rect, g.f:focus rect { stroke: #14181c; stroke-width: 1.2 } g.f:focus { outline: none }
.hidden { display: none } .below { opacity: .45 }
"""
SCRIPT = """
const frames = [...document.querySelectorAll('g.f')];
function show(frame) {
  const from = +frame.dataset.x, width = +frame.dataset.w, depth = +frame.dataset.d;
  for (const other of frames) {
    const x = +other.dataset.x, w = +other.dataset.w, below = +other.dataset.d < depth;
    const around = below && x <= from + 1e-6 && x + w >= from + width - 1e-6;
    const within = !below && x >= from - 1e-6 && x + w <= from + width + 1e-6;
    other.classList.toggle('hidden', !around && !within);
    other.classList.toggle('below', around && frame !== other);
    if (!around && !within) continue;
    const left = around ? SIDE : SIDE + (x - from) / width * INNER;
    const wide = around ? INNER : w / width * INNER;
    const box = other.querySelector('rect'), label = other.querySelector('text');
    box.setAttribute('x', left); box.setAttribute('width', Math.max(.3, wide));
    label.setAttribute('x', left + 3);
    label.textContent = fitted(other.dataset.n, wide);
  }
}
function fitted(name, wide) {
  const most = Math.floor((wide - 6) / CHARACTER);
  return most < 3 ? '' : name.length <= most ? name : name.slice(0, most - 1) + '…';
}
for (const frame of frames) {
  frame.addEventListener('click', () => show(frame));
  frame.addEventListener('keydown', event => { if (event.key === 'Enter') show(frame); });
}
document.documentElement.addEventListener('keydown', event => {
  if (event.key === 'Escape') show(frames[0]);
});
"""


class Node:
    """A frame with those that it called."""

    def __init__(self, name):
        self.name, self.weight, self.children = name, 0, {}


def tree(folded):
    root = Node("all")
    for stack, weight in folded.items():
        node = root
        node.weight += weight
        for name in stack:
            node = node.children.setdefault(name, Node(name))
            node.weight += weight
    return root


def placed(root, width):
    """(node, depth, left, width in pixels) of all that are wide enough, the root first."""
    scale = width / root.weight
    waiting = [(root, 0, 0.0)]
    while waiting:
        node, depth, left = waiting.pop()
        wide = node.weight * scale
        if wide < NARROWEST:
            continue
        yield node, depth, left, wide
        for name in sorted(node.children):
            waiting.append((node.children[name], depth + 1, left))
            left += node.children[name].weight * scale


def without_arguments(name):
    """A function's name without what its templates are instantiated with, for a label."""
    before = None
    while before != name:
        before, name = name, re.sub(r"(?<!operator)<[^<>]*>", "", name)
    return name


def fitted(name, wide):
    most = int((wide - 6) / CHARACTER)
    if most < 3:
        return ""
    return name if len(name) <= most else name[:most - 1] + "…"


def frame(node, depth, left, wide, height, whole, unit, kind_of):
    kind = "thread" if depth < 2 else kind_of(node.name)
    label = without_arguments(node.name.removesuffix("_[k]"))
    words = (f"{node.name.removesuffix('_[k]')}: {node.weight:,} {unit}, "
             f"{100 * node.weight / whole:.2f} %")
    top = height - 24 - (depth + 1) * ROW
    escape = html.escape
    return (f'<g class="f" tabindex="0" data-x="{left:.3f}" data-w="{wide:.3f}" data-d="{depth}" '
            f'data-n="{escape(label)}"><title>{escape(words)}</title>'
            f'<rect class="frame" x="{SIDE + left:.2f}" y="{top}" width="{max(0.3, wide):.2f}" '
            f'height="{ROW - 1}" rx="1" fill="{COLOURS[kind]}"/>'
            f'<text x="{SIDE + left + 3:.2f}" y="{top + 12}">{escape(fitted(label, wide))}</text>'
            "</g>")


def svg(folded, title, words, unit, kind_of):
    """The text of the file. Requires: at least one stack; weights are in `unit`."""
    root = tree(folded)
    inner = WIDTH - 2 * SIDE
    boxes = list(placed(root, inner))
    height = TOP + (max(depth for _, depth, _, _ in boxes) + 1) * ROW + 30
    escape = html.escape
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
             f"<style>{STYLE}</style>", f'<rect width="{WIDTH}" height="{height}" fill="#fbfbfa"/>',
             f'<text class="title" x="{SIDE}" y="22">{escape(title)}</text>',
             f'<text class="words" x="{SIDE}" y="42">{escape(words)}</text>']
    for number, (kind, word) in enumerate(LEGEND):
        left = WIDTH - 290 + number * 98
        parts.append(f'<rect x="{left}" y="11" width="12" height="12" fill="{COLOURS[kind]}"/>'
                     f'<text class="words" x="{left + 17}" y="21">{word}</text>')
    parts += [frame(*box, height, root.weight, unit, kind_of) for box in boxes]
    script = (SCRIPT.replace("SIDE", str(SIDE)).replace("INNER", str(inner))
              .replace("CHARACTER", str(CHARACTER)))
    parts.append(f"<script><![CDATA[{script}]]></script></svg>\n")
    return "\n".join(parts)
