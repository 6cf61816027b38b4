"""Small SVG charts of what a comparison found."""

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 340, 60, 48, 34, 150  # px
COLOURS = ["#1f6f8b", "#c8553d"]


def attention_lines(report):
    """{pass: [(share, milliseconds)]} of the kernels that were run at several shares."""
    lines = {}
    for kernel in report["kernels"]:
        if "selected_share" in kernel:
            lines.setdefault(kernel["op"], []).append((kernel["selected_share"], kernel["seconds"]["median"] * 1e3))
    return {name: sorted(points) for name, points in lines.items()}


def write_attention(path, report):
    """Time of the attention core over the share of queries; dashed: proportional to it."""
    lines = attention_lines(report)
    most = max(y for points in lines.values() for _, y in points) * 1.05

    def place(x, y):
        return f"{LEFT + x * (WIDTH - LEFT - RIGHT):.1f},{HEIGHT - BOTTOM - y / most * (HEIGHT - BOTTOM - TOP):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
             'font-size="12">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{LEFT}" y="20">Attention core, {report["tokens"]} tokens, {report["dtype"]}, '
             f'{report["threads"]} threads</text>']
    for i in range(6):
        x, y = i / 5, most * i / 5
        at_x, at_y = place(x, 0).split(","), place(0, y).split(",")
        parts.append(f'<path d="M{place(0, y)} L{place(1, y)}" stroke="#ddd"/>')
        parts.append(f'<text x="{at_x[0]}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(at_y[1]) + 4:.1f}" text-anchor="end">{y:.0f}</text>')
    for colour, (name, points) in zip(COLOURS, lines.items()):
        full = points[-1][1]
        path_data = " L".join(place(x, y) for x, y in points)
        parts.append(f'<path d="M{place(0, 0)} L{place(1, full)}" stroke="{colour}" stroke-dasharray="3 4"/>')
        parts.append(f'<path d="M{path_data}" fill="none" stroke="{colour}" stroke-width="2"/>')
        end = place(1, full).split(",")
        parts.append(f'<text x="{float(end[0]) + 8:.1f}" y="{end[1]}" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10}">share of queries selected; ms a call</text></svg>')
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
