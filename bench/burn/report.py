"""Rows of figures, their bars and verdicts; as text and as Markdown."""
import math
import statistics


class Row:
    """One thing that was measured: of Kiln against its bar, of the peers beside it.

    `computed` says what was done before how exactly. `sane` is (lowest, highest) of what a figure may be on a busy
    machine with tiny parameters.
    """

    def __init__(self, what, unit="", digits=3, bar=None, at_least=False, sane=None, computed=""):
        self.what, self.unit, self.digits = what, unit, digits
        self.bar, self.at_least, self.sane = bar, at_least, sane
        self.computed, self.figures = computed, {}

    def add(self, contestant, value):
        """One round's figure; nothing where it could not be had."""
        if value is not None:
            self.figures.setdefault(contestant, []).append(value)

    def median(self, contestant="kiln"):
        values = self.figures.get(contestant)
        return statistics.median(values) if values else None

    def text(self, contestant="kiln"):
        values = self.figures.get(contestant)
        if not values:
            return "–"
        median = f"{statistics.median(values):.{self.digits}f}"
        if len(values) == 1:
            return median
        return f"{median} ({min(values):.{self.digits}f} to {max(values):.{self.digits}f})"

    def bar_text(self):
        if self.bar is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.bar:g} {self.unit}".rstrip()

    def met(self):
        """None without a bar or a figure. A bar that is no minimum holds for the figure without its sign."""
        median = self.median()
        if self.bar is None or median is None:
            return None
        return median >= self.bar if self.at_least else abs(median) <= self.bar

    def is_sane(self):
        values = self.figures.get("kiln", [])
        low, high = self.sane or (-math.inf, math.inf)
        return all(math.isfinite(value) and low <= value <= high for value in values)


class Table:
    def __init__(self, markdown, quick):
        self.markdown, self.quick = markdown, quick
        self.missed, self.judged = [], 0

    def print(self, title, rows, peers=(), notes=()):
        """A section. `peers` are columns after Kiln's own."""
        heads = ["what", "computed", "kiln", "bar", "", *peers]
        lines = [[f"{row.what}, {row.unit}" if row.unit else row.what, row.computed, row.text(), row.bar_text(),
                  self._verdict(title, row), *(row.text(peer) for peer in peers)] for row in rows]
        if self.markdown:
            print(f"\n### {title}\n\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
            for line in lines:
                print("| " + " | ".join(line) + " |")
        else:
            widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
            print(f"\n{title}")
            for line in [heads, *lines]:
                print("  " + "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
        for note in notes:
            print(f"\n{note}" if self.markdown else f"  {note}")
        print(end="", flush=True)

    def _verdict(self, title, row):
        met = row.is_sane() if self.quick and row.figures.get("kiln") else None if self.quick else row.met()
        if met is None:
            return ""
        self.judged += 1
        if not met:
            self.missed.append(f"{title.split(':')[0]}: {row.what}: {row.text()}")
        if self.quick:
            return "sane" if met else "INSANE"
        return "ok" if met else "MISS"

    def print_summary(self):
        print(f"\n{self.judged - len(self.missed)} of {self.judged} {'figures are sane' if self.quick else 'bars met'}")
        for line in self.missed:
            print(f"  {line}")


def percent_over(billed, asked):
    return 100 * (billed - asked) / asked


def fit_line(points):
    """Least squares: intercept, slope, and the residuals."""
    slope, intercept = statistics.linear_regression(*zip(*points))
    return intercept, slope, [y - (intercept + slope * x) for x, y in points]
