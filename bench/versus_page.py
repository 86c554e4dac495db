"""What `make versus` prints and writes: a table as text and as Markdown, and a page with plots."""
import html

MIDDLE = 1  # the rate whose latency is in the table
OURS = "pulsewheel-"


def columns(result):
    """Key of a figure, heading in two lines, whether less is better, and what it is, in words."""
    settings = result["settings"]
    rates, judged = settings["rates"], settings["judged"]
    held = f"{settings['connections']:,} connections"
    shown = [("rss_bytes", "RSS", "B", True,
              f"RSS a connection, B: of {held}, above the empty server"),
             ("kernel_bytes", "kernel", "B", True,
              "Kernel memory a connection, B: charged to a cgroup of the server's own")]
    for number, rate in enumerate(rates):
        shown.append((f"cpu_us.{number}", "CPU us", f"at {rate:,}/s", True,
                      f"CPU of the server a heartbeat, us: at {rate:,} heartbeats a second"))
    for key, name in (("p50", "p50"), ("p99", "p99"), ("p99_9", "p99.9")):
        shown.append((f"{key}_ms.{MIDDLE}", name, "ms", True,
                      f"{name} of heartbeats, ms: from the instant one was due to its pong, at "
                      f"{rates[MIDDLE]:,}/s"))
    shown.append(("connects_per_s", "connects", "/s", False, "Connected a second, unpaced"))
    shown.append(("lost_by_stop", "lost by", "a stop", True,
                  f"Living peers lost, of {judged:,}: by a stop of {settings['stop_s']} s under a "
                  f"timeout of {settings['timeout_s']} s"))
    shown.append(("evicted_late_p50_ms", "late", "ms, p50", True,
                  "Evicted late, ms: silent peers behind their deadline, p50"))
    shown.append(("evicted_late_max_ms", "late", "ms, most", True,
                  "Evicted late, ms: the latest of them"))
    shown.append(("evicted_early", "early", "peers", True,
                  "Evicted early: silent peers before their deadline"))
    return shown


def short(value):
    if value == int(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(result, peer, key):
    """The median and in brackets the least and the most; a dash where nothing was measured."""
    figure = peer["figures"].get(key)
    if figure is None:
        return "none" if key.startswith("evicted_") and not peer["evicts"] else "-"
    text = short(figure["median"])
    if short(figure["min"]) != short(figure["max"]):
        text += f" ({short(figure['min'])}-{short(figure['max'])})"
    rate = offered_instead(result, peer, key)
    return f"{text} at {rate:,}/s" if rate else text


def offered_instead(result, peer, key):
    """The rate that a peer was offered, where it is not the planned one."""
    name, _, number = key.partition(".")
    if not number or (name != "cpu_us" and int(number) != MIDDLE):
        return None
    offered = peer["offered"][int(number)]
    is_shown = name in ("cpu_us", "p50_ms")  # once a row and rate
    return offered if is_shown and offered != result["settings"]["rates"][int(number)] else None


def missing(result):
    """Peer and figure of each that no valid run gave, but for what a short run cannot give."""
    lacking = []
    for name, peer in result["peers"].items():
        for key, *_ in columns(result):
            may_lack = key.startswith(("p99", "kernel_")) or (
                key.startswith("evicted_") and not peer["evicts"])
            missed_all = key.startswith("evicted_late") and figure_of(peer, "evicted_missed") > 0
            if key not in peer["figures"] and not may_lack and not missed_all:
                lacking.append((name, key))
    return lacking


def figure_of(peer, key):
    return peer["figures"].get(key, {"median": 0})["median"]


# ---------------------------------------------------------------------------------------- as text
def block(result, shown):
    rows = [["", *(top for _, top, _, _, _ in shown)], ["", *(unit for _, _, unit, _, _ in shown)]]
    for name, peer in result["peers"].items():
        rows.append([name, *(cell(result, peer, key) for key, *_ in shown)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join([row[0].ljust(widths[0]),
                                *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
                     .rstrip() for row in rows)


def text(result):
    shown = columns(result)
    parts = ["\n" + rounds_text(result) + " (least-most)",
             "\nMemory a connection, CPU a heartbeat, connect rate",
             block(result, [column for column in shown if column[0].startswith(
                 ("rss", "kernel", "cpu", "connects"))]),
             f"\nHeartbeats at {result['settings']['rates'][MIDDLE]:,}/s; a stop of the process; "
             "evictions of silent peers",
             block(result, [column for column in shown if column[0].startswith(
                 ("p50", "p99", "lost", "evicted"))])]
    for name, peer in result["peers"].items():
        parts += [f"  {name}: {note}" for note in peer["notes"]]
    parts.append("\n" + quietness(result))
    return "\n".join(parts)


def rounds_text(result):
    rounds = result["settings"]["rounds"]
    return f"Medians of {rounds} rounds" if rounds > 1 else "Of one round"


def quietness(result):
    machine = result["machine"]
    ahead = ("; servers and generator ran before it, at real-time priority"
             if machine["real_time"] else "")
    return (f"Load {machine['load_average_at_start']} at the start; beside the servers and the "
            f"generator other work had {machine['other_work_cores']} of {machine['cores']} cores "
            f"in the median run, {machine['other_work_cores_max']} in the busiest{ahead}")


def markdown(result):
    """The table for a README: medians, and the spread where there is one."""
    shown = columns(result)
    machine = result["machine"]
    lines = ["| | " + " | ".join(f"{top} {unit}" for _, top, unit, _, _ in shown) + " |",
             "|---" * (len(shown) + 1) + "|"]
    for peer in result["peers"].values():
        cells = " | ".join(cell(result, peer, key) for key, *_ in shown)
        lines.append(f"| {peer['title']} | {cells} |")
    lines += ["", f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Linux "
              f"{machine['kernel']}, revision {machine['revision']}, `{result['command']}`. "
              f"{quietness(result)}.", ""]
    lines += [f"- {top} {unit}: {what}" for _, top, unit, _, what in shown]
    lines += [f"- {peer['title']}: {peer['version']}" for peer in result["peers"].values()]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------- the page
STYLE = """
:root { color-scheme: light dark; --page: #fcfcfb; --card: #fff; --ink: #1c2126; --soft: #59636e;
  --rule: #e2e5e8; --ours: #0b8278; --floor: #8a949e; --other: #2563c9; }
@media (prefers-color-scheme: dark) { :root { --page: #101418; --card: #161b20; --ink: #e4e8eb;
  --soft: #9ba6b0; --rule: #2a3138; --ours: #3fc5b7; --floor: #66717c; --other: #6ea6ff; } }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0; } h2 { font-size: 16px; margin: 0 0 8px; }
p, li { color: var(--soft); font-size: 14px; }
.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin: 24px 0; }
@media (max-width: 800px) { .plots { grid-template-columns: 1fr; } }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 16px 20px; }
svg { width: 100%; height: auto; display: block; }
text { fill: var(--ink); font-size: 13px; } text.value { fill: var(--soft); }
.ours { fill: var(--ours); } .floor { fill: var(--floor); } .other { fill: var(--other); }
.spread { stroke: var(--ink); stroke-width: 1.5; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--rule);
  white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
"""
BAR_LEFT, BAR_WIDTH, ROW_HEIGHT, PLOT_WIDTH = 150, 200, 26, 570


def plot(result, key, what):
    """Bars of one figure, one a peer, with a line from the least to the most."""
    rows = [(peer, name, peer["figures"].get(key)) for name, peer in result["peers"].items()]
    rows = [row for row in rows if row[2] is not None]
    if not rows:
        return ""
    scale = BAR_WIDTH / (max(figure["max"] for _, _, figure in rows) or 1)
    parts = [f'<figure><h2>{html.escape(what)}</h2><svg viewBox="0 0 {PLOT_WIDTH} '
             f'{len(rows) * ROW_HEIGHT}" role="img" aria-label="{html.escape(what)}">']
    for number, (peer, name, figure) in enumerate(rows):
        middle = number * ROW_HEIGHT + ROW_HEIGHT / 2
        kind = "ours" if name.startswith(OURS) else "floor" if name == "bare" else "other"
        width = max(1.0, figure["median"] * scale)
        least, most = (BAR_LEFT + figure[edge] * scale for edge in ("min", "max"))
        parts.append(
            f'<text x="{BAR_LEFT - 10}" y="{middle + 4}" text-anchor="end">'
            f'{html.escape(peer["title"])}</text>'
            f'<rect class="{kind}" x="{BAR_LEFT}" y="{middle - 7}" width="{width:.1f}" '
            f'height="14" rx="2"/><line class="spread" x1="{least:.1f}" x2="{most:.1f}" '
            f'y1="{middle}" y2="{middle}"/>'
            f'<text class="value" x="{max(most, BAR_LEFT + width) + 8:.1f}" y="{middle + 4}">'
            f'{html.escape(cell(result, peer, key))}</text>')
    return "".join(parts) + "</svg></figure>"


def table(result):
    shown = columns(result)
    head = "".join(f"<th>{html.escape(top)}<br>{html.escape(unit)}</th>"
                   for _, top, unit, _, _ in shown)
    rows = "".join(
        f"<tr><td>{html.escape(peer['title'])}</td>" +
        "".join(f"<td>{html.escape(cell(result, peer, key))}</td>" for key, *_ in shown) + "</tr>"
        for peer in result["peers"].values())
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def page(result):
    machine = result["machine"]
    about = (f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Linux "
             f"{machine['kernel']}, revision {machine['revision']}. "
             f"{rounds_text(result)}; a line goes from the least to the most. "
             f"{quietness(result)}.")
    plots = "".join(plot(result, key, what if less else what + " (more is better)")
                    for key, _, _, less, what in columns(result))
    notes = [f"{peer['title']}: {peer['version']}" for peer in result["peers"].values()]
    notes += [f"{name}: {note}" for name, peer in result["peers"].items()
              for note in peer["notes"]]
    notes += [f"{row['name']} was skipped: {row['why']}" for row in result["skipped"]]
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Pulsewheel beside others'
            f'</title><meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
            f"<main><h1>Pulsewheel beside others</h1><p>{html.escape(about)}</p>{table(result)}"
            f'<div class="plots">{plots}</div><ul>{listed}</ul></main></html>\n')
