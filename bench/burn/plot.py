"""Asked against billed CPU, as a small SVG that follows the reader's light or dark scheme."""
import statistics

SIZE, LEFT, TOP, PLOT = (460, 420), 54, 16, 350
STYLE = """
  text { font: 12px sans-serif; fill: #333 }
  .axis, .grid { stroke: #333; fill: none } .grid { opacity: .15 } .ideal { stroke: #888; opacity: .5 }
  .kiln { stroke: #c2410c; fill: #c2410c } .peer { stroke: #2563eb; fill: none; stroke-dasharray: 2 4 }
  .label { fill: #2563eb; stroke: none } .kiln.label { fill: #c2410c }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd } .axis, .grid { stroke: #ddd }
    .kiln { stroke: #fb923c; fill: #fb923c } .kiln.label { fill: #fb923c }
    .peer { stroke: #60a5fa } .label { fill: #60a5fa }
  }"""


def write_plot(path, seen, limit):
    """`seen`: contestant -> asked millicores -> billed millicores, several each. The medians are drawn."""
    curves = {name: [(asked, statistics.median(billed)) for asked, billed in sorted(points.items())]
              for name, points in seen.items()}
    top = max(limit, *(billed for points in curves.values() for _, billed in points))

    def place(asked, billed):
        return f"{LEFT + PLOT * asked / limit:.1f},{TOP + PLOT * (1 - billed / top):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE[0]} {SIZE[1]}" role="img">',
             "<title>CPU billed against CPU asked</title>", f"<style>{STYLE}\n</style>"]
    for tick in range(0, int(limit) + 1, 100):
        x, y = place(tick, tick).split(",")
        parts.append(f'<path class="grid" d="M{LEFT},{y}H{LEFT + PLOT}M{x},{TOP}V{TOP + PLOT}"/>')
        parts.append(f'<text x="{x}" y="{TOP + PLOT + 16}" text-anchor="middle">{tick}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick}</text>')
    parts.append(f'<path class="axis" d="M{LEFT},{TOP}V{TOP + PLOT}H{LEFT + PLOT}"/>')
    parts.append(f'<path class="ideal" d="M{place(0, 0)}L{place(limit, limit)}"/>')
    label_y = 0.0
    for name, points in sorted(curves.items(), key=lambda curve: -curve[1][-1][1]):
        kind = "kiln" if name == "kiln" else "peer"
        line = "L".join(place(*point) for point in points)
        parts.append(f'<path class="{kind}" style="fill:none" d="M{line}"/>')
        if kind == "kiln":
            parts += [f'<circle class="kiln" cx="{x}" cy="{y}" r="3"/>'
                      for x, y in (place(*point).split(",") for point in points)]
        x, y = place(*points[-1]).split(",")
        label = "kiln label" if kind == "kiln" else "label"
        label_y = max(float(y) + 4, label_y + 14)  # from the highest downwards, none upon another
        parts.append(f'<text class="{label}" x="{float(x) + 6:.1f}" y="{label_y:.1f}">{name}</text>')
    parts.append(f'<text x="{LEFT + PLOT / 2}" y="{SIZE[1] - 12}" text-anchor="middle">asked, millicores</text>')
    parts.append(f'<text transform="translate(14,{TOP + PLOT / 2}) rotate(-90)" text-anchor="middle">'
                 "billed, millicores</text>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*parts, "</svg>", ""]))
