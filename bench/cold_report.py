#!/usr/bin/env python3
"""Draws what ./dev bench-cold has measured of a request's phases as one SVG without outside parts.

    python3 bench/cold_report.py build/bench/cold.json docs/explain/cold-start.svg

Three bars for each model: cold with the artefact in memory, cold with it only on disk, warm. Medians; a bar's length is the sum of
its phases' medians, the figure beside it the median of the whole request in the server.
"""
import html
import json
import pathlib
import sys

MODELS = ("iris", "efficientnet, 18 MB", "minilm, 90 MB")
KINDS = (("artefact in memory, cold", "cold, in memory"), ("artefact only on disk, cold", "cold, on disk"),
         ("artefact in memory, warm", "warm"))
PHASES = {"queue": "#8da0cb", "fork": "#66c2a5", "isolate": "#1b7837", "map": "#e78ac3", "init": "#fc8d62", "infer": "#a6761d", "other": "#bbbbbb"}
WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 900, 230, 90, 18, 6, 74


def read(rows):
    """{(model, kind): {phase: ms}}"""
    values = {r["what"]: r["value"] for r in rows}
    found = {}
    for model in MODELS:
        for key, kind in KINDS:
            phases = {p: values.get(f"{model}, {key}: phase {p}, p50") for p in (*PHASES, "total")}
            if phases["total"] is None:
                continue
            bar = {p: v for p, v in phases.items() if p != "total" and v is not None}
            bar["other"] = max(0.0, phases["total"] - sum(bar.values()))
            found[model, kind] = bar, phases["total"]
    return found


def text(x, y, content, anchor="start", size=13, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">'
            f"{html.escape(content)}</text>")


def model_bars(model, bars, y):
    """Each model has a scale of its own: its longest bar fills the width."""
    longest = max(max(total, sum(bar.values())) for bar, total in bars.values())
    scale = (WIDTH - LEFT - RIGHT) / longest
    out = [text(12, y + BAR - 4, model, weight="bold")]
    for kind, (bar, total) in bars.items():
        out.append(text(LEFT - 8, y + BAR - 4, kind, "end"))
        x = LEFT
        for phase, color in PHASES.items():
            w = bar.get(phase, 0.0) * scale
            if w > 0:
                out.append(f'<rect x="{x:.1f}" y="{y}" width="{w:.2f}" height="{BAR}" fill="{color}"><title>{phase} {bar[phase]:.2f} ms</title></rect>')
            x += w
        out.append(text(x + 6, y + BAR - 4, f"{total:.2f} ms"))
        y += BAR + GAP
    return out, y + 14


def draw(document):
    found, facts = read(document["rows"]), document["machine"]
    if not found:
        raise SystemExit("cold_report: the file has no phases; run ./dev bench-cold")
    out = [text(12, 24, "Where a request's time goes, cold and warm (medians, milliseconds in the server)", size=16, weight="bold")]
    out.append(text(12, 42, f"{facts['cpu']}, {facts['cores']} cores, {facts['mayfly']}, {facts['time'][:10]}; each model has a scale of its own", size=11))
    x = 12
    for phase, color in PHASES.items():
        out.append(f'<rect x="{x}" y="52" width="12" height="12" fill="{color}"/>')
        out.append(text(x + 16, 62, phase, size=12))
        x += 34 + 8 * len(phase)
    y = TOP
    for model in MODELS:
        bars = {kind: found[model, kind] for _, kind in KINDS if (model, kind) in found}
        if bars:
            part, y = model_bars(model, bars, y)
            out += part
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
            f'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(out) + "\n</svg>\n")


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: cold_report.py COLD.json OUT.svg")
    pathlib.Path(sys.argv[2]).write_text(draw(json.loads(pathlib.Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
