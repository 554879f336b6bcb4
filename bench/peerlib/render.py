"""Tables (plain text and Markdown) and the plot, all from the results alone."""
import html

from . import aims, stats

MARK = "<!-- results of %s: bench/peers render writes what follows -->"
END = "<!-- end of results -->"


def figure(x):
    """Three digits that count."""
    return "%.0f" % x if x >= 1000 else "%#.3g" % x if x < 100 else "%.0f" % x


def percent(x):
    return "%.0f %%" % (100 * x)


def ranged(s, fmt=figure):
    return "%s [%s-%s]" % (fmt(s["median"]), fmt(s["low"]), fmt(s["high"]))


def ratio(s):
    return ranged(s, lambda x: "%.2f" % x) if s else "–"


def cell(s):
    """median [low-high] (share); † where no run counts and all are used."""
    if not s:
        return "–"
    return ranged(s) + (" (%s)" % percent(s["share"]) if s.get("share") is not None else "") + (" †" if s["unkept"] else "")


def measure_name(m):
    kind, *rest = m.split()
    if kind == "batch":
        return "decode, %s at once" % rest[0]
    if kind == "fill":
        return "prefill of %s, cache %s" % (rest[0], rest[1])
    if kind == "depth":
        return "decode after %s, cache %s" % (rest[0], rest[1])
    if kind == "first":
        return "first token of a prompt of %s, seconds" % rest[1]
    return m


def grid(results, rule):
    """Head and rows of the main table."""
    names = list(results["programs"])
    head = ["model", "threads", "what"] + names + ["%s / %s" % (names[0], p) for p in names[1:]] + ["rounds"]
    rows = []
    for r in stats.summarise(results, rule):
        pairs = [r["ratios"][p]["n"] for p in names[1:] if p in r["ratios"]]
        rows.append([r["model"], str(r["threads"]), measure_name(r["measure"])] +
                    [cell(r["programs"].get(n)) for n in names] + [ratio(r["ratios"].get(p)) for p in names[1:]] +
                    ["%d of %d" % (min(pairs) if len(pairs) == len(names) - 1 else 0, r["rounds"]) if names[1:] else
                     str(r["rounds"])])
    return head, rows


def scaling_grid(results, rule):
    names = list(results["programs"])
    rows = [[r["model"], measure_name(r["measure"]), str(r["threads"])] +
            [ranged(r["programs"][n], percent) if n in r["programs"] else "–" for n in names]
            for r in stats.scaling(results, rule)]
    return ["model", "what", "threads"] + names, rows


def probes(results):
    """The machine's own figures over all probes: one sentence."""
    said = []
    for threads in sorted({r["job"]["threads"] for r in results["rounds"]}):
        p = [x for r in results["rounds"] if r["job"]["threads"] == threads for x in r["probes"] if x]
        if p:
            said.append("%d thread%s: read %s GB/s (mapped pages), %s (huge pages), peaks %s (f32), %s (bf16), %s (int8) Gop/s"
                        % ((threads, "s" * (threads > 1)) + tuple(ranged(stats.three([x[k] for x in p]))
                           for k in ("read_gb_s", "read_huge_gb_s", "f32", "bf16", "int8"))))
    return said


def failures(results):
    out = []
    for r in results["rounds"]:
        for run in r["runs"]:
            if "error" in run:
                line = "%s, %s: %s: %s" % (r["job"]["model"], r["job"]["kind"], run["program"], run["error"])
                if line not in out:
                    out.append(line)
    return out


def aims_grid(results, rule):
    said = {True: "reached", False: "missed", None: "not measured"}
    rows = [[m, str(t), measure_name(x), what, ">= %.2f" % want, "–" if got is None else "%.2f" % got, said[held]]
            for m, t, x, what, want, got, held in aims.check(results, rule)]
    return ["model", "threads", "what", "drover's", "aim", "measured", ""], rows


def text(results, rule=stats.RULE, with_aims=False):
    """For the terminal."""
    lines = []
    for head, rows in (grid(results, rule), scaling_grid(results, rule)) + ((aims_grid(results, rule),) if with_aims else ()):
        if not rows:
            continue
        table = [head] + rows
        width = [max(len(r[i]) for r in table) for i in range(len(head))]
        lines += ["  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip() for r in table] + [""]
    lines += probes(results) + failures(results)
    return "\n".join(lines) + "\n"


def markdown(results, rule=stats.RULE):
    m = results["machine"]
    dates = sorted(r["date"] for r in results["rounds"])
    days = sorted({dates[0][:10], dates[-1][:10]})
    loads = [r["load"][0] for r in results["rounds"]]
    lines = ["%s, %d cores, %s GB, Linux %s (%s); %s." % (m["processor"], m["cpus"], m["memory_gb"], m["kernel"],
             " ".join(m["flags"]), " to ".join(days)),
             "Load average when a round began: %s. " % ranged(stats.three(loads)) +
             "Programs: " + "; ".join("%s: %s" % (n, p["version"]) for n, p in results["programs"].items()) + ".", ""]
    lines += ["Probes, %s." % s for s in probes(results)] + [""]
    for title, (head, rows) in (("", grid(results, rule)),
                                ("Scaling over threads: tokens/s at N threads over those at 1, as a share of the same ratio "
                                 "of the machine's own bound in the same turn.", scaling_grid(results, rule))):
        if not rows:
            continue
        if title:
            lines += [title, ""]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(r) + " |" for r in rows] + [""]
    bad = failures(results)
    if bad:
        lines += ["Did not run:", ""] + ["* " + b for b in bad] + [""]
    return "\n".join(lines)


def into(page, name, results, rule=stats.RULE):
    """The page with the tables of this results file put between its marks."""
    start = page.find(MARK % name)
    end = page.find(END, start)
    if start < 0 or end < 0:
        raise ValueError("the page has no line %s with a line %s after it" % (MARK % name, END))
    start += len(MARK % name)
    return page[:start] + "\n\n" + markdown(results, rule) + "\n" + page[end:]


# ---- the plot

COLOURS = ("#1b6ca8", "#c4651a", "#5b8c3e", "#8a5aa5", "#777777", "#b03a48")
BAR, GAP, LEFT, WIDE, FULL = 13, 12, 190, 420, 780


def svg(results, rule=stats.RULE):
    """Bars of prefill and decode: each program's median in tokens/s as a share of the fastest of its row, the figure
    written at its end. Thin lines are the range."""
    names = list(results["programs"])
    rows = [r for r in stats.summarise(results, rule) if not stats.is_time(r["measure"])]
    out, y = [], 56
    for r in rows:
        top = max(s["high"] for s in r["programs"].values())
        label = "%s, %s" % (r["model"], measure_name(r["measure"]))
        if r["threads"] != max(x["threads"] for x in rows):
            label += ", %d thread%s" % (r["threads"], "s" * (r["threads"] > 1))
        out.append('<text x="16" y="%d" font-weight="600">%s</text>' % (y, html.escape(label)))
        y += 7
        for i, n in enumerate(names):
            s = r["programs"].get(n)
            if not s:
                continue
            w, lo, hi = (WIDE * s[k] / top for k in ("median", "low", "high"))
            mid = y + BAR / 2
            out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (LEFT - 8, mid + 4, html.escape(n)))
            out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>'
                       % (LEFT, y, w, BAR - 2, COLOURS[i % len(COLOURS)]))
            out.append('<path d="M%.1f %.1fH%.1f" stroke="#222" stroke-width="1.2"/>' % (LEFT + lo, mid - 1, LEFT + hi))
            note = figure(s["median"]) + (", %s of the bound" % percent(s["share"]) if s.get("share") is not None else "")
            note += " †" if s["unkept"] else ""
            out.append('<text x="%.1f" y="%.1f">%s</text>' % (LEFT + max(w, hi) + 6, mid + 4, html.escape(note)))
            y += BAR
        y += GAP + 12
    m = results["machine"]
    title = "tokens per second, median and range (†: no run counts); %s, %d cores" % (m["processor"], m["cpus"])
    return "\n".join(['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" '
                      'font-family="sans-serif" font-size="12" fill="#222">' % (FULL, y, FULL, y),
                      '<rect width="100%" height="100%" fill="#fff"/>',
                      '<text x="16" y="24" font-size="14">%s</text>' % html.escape(title)] + out + ["</svg>", ""])
