"""The Markdown tables: ratios with intervals, losses as plainly as wins."""

import statistics

from harness.sampling import TRIES, disturbed
from harness.stats import FEWEST_RUNS, estimate, geometric_means, ratios


def table(header, rows):
    """A Markdown table; all columns but the first are aligned to the right."""
    marks = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [header, marks, *rows])


def cell(values):
    """The estimate of {round: ratio}, or a dash."""
    return str(estimate(list(values.values())) or "–")


class Comparison:
    """The tables of one face."""

    def __init__(self, samples, rows, heaps, base, subject):
        self.samples, self.rows, self.base, self.subject = samples, rows, base, subject
        self.others = [heap for heap in heaps if heap != base]
        self.rivals = [heap for heap in heaps if heap != subject]
        self.has_subject = subject in heaps

    def ratio(self, row, heap, against, key):
        """{round: ratio} of two heaps in one row."""
        return ratios(self.samples.series(row, heap, key), self.samples.series(row, against, key))

    def best_rival(self, row, key):
        """The rival whose median is the lowest in this row."""
        medians = {}
        for rival in self.rivals:
            series = self.samples.series(row, rival, key)
            if series:
                medians[rival] = statistics.median(series.values())
        return min(medians, key=medians.get) if medians else None

    def render(self, key, unit, scale):
        """The table of one figure: the base's median in `unit`, then each heap's ratio to the base in the same round."""
        header = ["row", f"{self.base}, {unit}", *self.others]
        if self.has_subject:
            header.append(f"{self.subject} / best rival")
        lines = []
        for group in dict.fromkeys(row["group"] for row in self.rows):
            names = [row["row"] for row in self.rows if row["group"] == group]
            lines += [self.line(name, key, scale) for name in names]
            if len(names) > 1:
                lines.append(self.mean_line(f"*{group}: geometric mean*", names, key))
        lines.append(self.mean_line("**all: geometric mean**", [row["row"] for row in self.rows], key))
        return table(header, lines)

    def line(self, row, key, scale):
        base = self.samples.series(row, self.base, key)
        cells = [row, f"{statistics.median(base.values()) * scale:,.2f}" if base else "failed"]
        cells += [cell(self.ratio(row, heap, self.base, key)) for heap in self.others]
        if self.has_subject:
            best = self.best_rival(row, key)
            cells.append(f"{cell(self.ratio(row, self.subject, best, key))} ({best})" if best else "–")
        return cells

    def mean_line(self, title, names, key):
        cells = [title, ""]
        cells += [cell(geometric_means([self.ratio(name, heap, self.base, key) for name in names])) for heap in self.others]
        if self.has_subject:
            pairs = [(name, self.best_rival(name, key)) for name in names]
            cells.append(cell(geometric_means([self.ratio(name, self.subject, best, key) for name, best in pairs if best])))
        return cells

    def disturbed(self):
        """How many samples of single-threaded rows stayed disturbed, and how many there are."""
        single = {row["row"] for row in self.rows if row["threads"] == 1}
        reports = [
            report
            for row in single
            for heap in self.samples.values.get(row, {}).values()
            for report in heap.values()
        ]
        return sum(map(disturbed, reports)), len(reports)


def fresh_table(results, reference="glibc"):
    """Resident memory of small programs as they exit, and what each allocator adds to the C library's."""
    rows = []
    for program, heaps in results.items():
        medians = {
            heap: [statistics.median(report[key] for report in reports) for key in ("resident_kib", "anonymous_kib")]
            for heap, reports in heaps.items()
        }
        base = medians.get(reference)
        for heap, (resident, anonymous) in medians.items():
            added = f"{resident - base[0]:+,.0f}" if base else "–"
            added_anonymous = f"{anonymous - base[1]:+,.0f}" if base else "–"
            rows.append([program, heap, f"{resident:,.0f}", added, f"{anonymous:,.0f}", added_anonymous])
    return table(["program", "allocator", "resident KiB", "added", "anonymous KiB", "added"], rows)


def instruction_table(figures, counts, heaps):
    """Instructions an operation."""
    rows = []
    for count in counts:
        found = figures.get((count.face, count.row), {})
        rows.append([count.what, *(f"{found[heap]:.1f}" if heap in found else "–" for heap in heaps)])
    return table(["instructions an operation", *heaps], rows)


def notes(runs, spoilt, samples):
    """What a reader has to know about the intervals and the quiet of the machine."""
    lines = []
    if runs < FEWEST_RUNS:
        lines.append(f"With {runs} runs the brackets are the range: an interval of 95 % needs at least {FEWEST_RUNS}.")
    if spoilt:
        lines.append(
            f"{spoilt} of {samples} samples of single-threaded rows lost more than 5 % of the processor to other programs in"
            f" each of {TRIES} tries."
        )
    return "\n".join(lines)
