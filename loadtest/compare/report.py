"""Tables and plots out of the figures: the section of the page between two marks is made anew."""

import html
import statistics

BEGIN, END = "<!-- compare: begin; made by `make compare` -->", "<!-- compare: end -->"
# What stands in the table, in this order: key, heading, how a figure is written.
COLUMNS = (
    ("rps", "req/s", "{:.0f}"), ("cpu_us", "CPU us/req", "{:.1f}"), ("kib_each", "KiB each", "{:.1f}"),
    ("p50_us", "p50 us", "{:.0f}"), ("p99_us", "p99 us", "{:.0f}"), ("p999_us", "p99.9 us", "{:.0f}"),
    ("refused", "refused", "{:.0f}"), ("errors", "failed", "{:.0f}"), ("silent", "silent", "{:.0f}"),
)
BESIDE = ("floor", "nginx", "envoy")
APART = 0.10


def values(entry, key):
    return [one[key] for one in entry["rounds"] if key in one]


def figure(scenario):
    """What ratios are taken of: CPU where there is one, else memory, else good answers."""
    for key in ("rps",) if scenario["name"] == "overload" else ("cpu_us", "kib_each", "rps"):
        if any(values(entry, key) for entry in scenario["proxies"].values()):
            return key
    return None


def ratios(entry, base, key):
    """Round by round, so that drift falls out."""
    return [a / b for a, b in zip(values(entry, key), values(base, key)) if b]


def halves_differ(found):
    """By how much the medians of the first and the last half of the rounds are apart, or None."""
    if len(found) < 2:
        return None
    half = max(1, len(found) // 2)
    first, last = statistics.median(found[:half]), statistics.median(found[-half:])
    return abs(first - last) / min(first, last) if min(first, last) > 0 else None


def all_ratios(scenario):
    """{proxy: {other: the median of the rounds' ratios}}"""
    key, measured = figure(scenario), {name: one for name, one in scenario["proxies"].items() if one.get("rounds")}
    found = {}
    for name, entry in measured.items():
        for other in BESIDE:
            if other in measured and other != name and (each := ratios(entry, measured[other], key)):
                found.setdefault(name, {})[other] = round(statistics.median(each), 3)
    return found


def run_before(scenario):
    """What the next run of a scenario is held against."""
    return {"date": scenario["date"], "ratios": all_ratios(scenario)}


def agreement(scenario):
    """Whether this run and the one before agree, in a sentence; nothing if there was none."""
    before, now = scenario.get("before"), all_ratios(scenario)
    pairs = [
        (f"{name} to {other}", then, now[name][other])
        for name, others in (before or {"ratios": {}})["ratios"].items()
        for other, then in others.items()
        if other in now.get(name, {})
    ]
    if not pairs:
        return None
    apart = [f"{what} ({then:.2f} then, {value:.2f} now)" for what, then, value in pairs
             if abs(then - value) / min(then, value) > APART]
    if not apart:
        return f"All {len(pairs)} ratios are within 10 % of those of the run before ({before['date']})."
    return (f"{len(apart)} of {len(pairs)} ratios are more than 10 % from those of the run before ({before['date']}): "
            + ", ".join(apart) + ".")


def spread(found, form):
    """Median (least to most)."""
    middle = form.format(statistics.median(found))
    low, high = form.format(min(found)), form.format(max(found))
    return middle if low == high else f"{middle} ({low}-{high})"


def table(scenario):
    """Lines of Markdown for one scenario."""
    lines = [f"### {scenario['title']}", ""]
    measured = {name: entry for name, entry in scenario["proxies"].items() if entry.get("rounds")}
    key, unsteady = figure(scenario), []
    if measured:
        columns = [column for column in COLUMNS if any(values(entry, column[0]) for entry in measured.values())]
        heads = [heading for _, heading, _ in columns] + ["peak MiB"] + [f"to {name}" for name in BESIDE]
        lines += [f"| `{scenario['name']}` | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
        for name, entry in measured.items():
            cells = [spread(values(entry, column), form) if values(entry, column) else "-" for column, _, form in columns]
            cells.append(f"{entry['peak_kib'] / 1024:.0f}" if "peak_kib" in entry else "-")
            for other in BESIDE:
                found = ratios(entry, measured[other], key) if other in measured and key else []
                cells.append(f"{statistics.median(found):.2f}" if found else "-")
                apart = halves_differ(found) if other != name else None
                if apart and apart > APART:
                    unsteady.append(f"{name} to {other} ({min(found):.2f} to {max(found):.2f})")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", f"{scenario['date']}, {scenario['rounds']} x {scenario['seconds']} s."]
    if scenario.get("note"):
        lines += [scenario["note"]]
    lines.append("")
    if unsteady:
        lines += ["Not steady, the halves of the rounds are more than 10 % apart: " + ", ".join(unsteady) + ".", ""]
    if said := agreement(scenario):
        lines += [said, ""]
    reasons = [f"{name}: {entry['reason']}" for name, entry in scenario["proxies"].items() if "reason" in entry]
    if "reason" in scenario:
        reasons.append(scenario["reason"])
    if reasons:
        lines += ["Not measured: " + "; ".join(one.replace("|", "/").rstrip(".") for one in reasons) + ".", ""]
    return lines


def plot(title, unit, bars):
    """Horizontal bars, as SVG. `bars`: (name, median, least, most)."""
    row, left, wide = 26, 110, 560
    top = 44
    most = max(high for *_, high in bars) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 90} {top + row * len(bars) + 12}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{html.escape(title)}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="8" y="22" font-size="15" font-weight="bold" fill="#222">{html.escape(title)}, {unit}</text>',
    ]
    for index, (name, middle, low, high) in enumerate(bars):
        y = top + index * row
        length = wide * middle / most
        colour = {"tollgate": "#1b6ca8", "floor": "#8a8a8a", "floor-tuned": "#b0b0b0"}.get(name, "#d9a441")
        x1, x2 = left + wide * low / most, left + wide * high / most
        parts += [
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end" fill="#222">{html.escape(name)}</text>',
            f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{row - 9}" fill="{colour}"/>',
            f'<path d="M{x1:.1f} {y + 11}H{x2:.1f}M{x1:.1f} {y + 6}v10M{x2:.1f} {y + 6}v10" stroke="#222" fill="none"/>',
            f'<text x="{max(left + length, x2) + 6:.1f}" y="{y + 15}" fill="#222">{middle:.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def plots(record, folder):
    """A plot for each scenario that has figures; {scenario: file}."""
    folder.mkdir(exist_ok=True)
    made = {}
    for scenario in record["scenarios"]:
        key = figure(scenario)
        bars = [
            (name, statistics.median(found), min(found), max(found))
            for name, entry in scenario["proxies"].items()
            if (found := values(entry, key))
        ] if key else []
        if bars:
            path = folder / f"{scenario['name']}.svg"
            path.write_text(plot(scenario["title"], {"cpu_us": "CPU us a request", "kib_each": "KiB each"}.get(key, "req/s"), bars))
            made[scenario["name"]] = f"{folder.name}/{path.name}"
    return made


def section(record, images):
    """The whole section, lines of Markdown."""
    lines = [
        BEGIN, "## Beside nginx, HAProxy, Envoy, Caddy and Varnish", "",
        f"{record['date']}; {record['machine']}. The rounds' number and length stand below each table, proxies in turn; "
        "medians, with the least and the most in brackets. One core for the proxy, one for load and origin. Tollgate "
        "writes its access log and counts its metrics, the others write none. `floor` is the bare Pingora proxy "
        "(`examples/bare_proxy.rs`), `floor-tuned` the same with small buffers and no work stealing. CPU is user and "
        "system time of the process and its children, and what the ratios are of (memory for idle connections, good "
        "answers for reloads, upgrades and overload); ratios are medians of the rounds' own. A run with errors, or with answers that are "
        "not the origin's, is void and stands among what was not measured.", "",
        f"`make compare ROUNDS={record['rounds']} SECONDS={record['seconds']}` (`SCENARIOS=…` for some of them, which leaves the "
        "others as they were). Figures: [compare.json](compare.json). "
        + "; ".join(f"{name}: {said}" for name, said in record["versions"].items()) + ".", "",
    ]
    for scenario in record["scenarios"]:
        lines += table(scenario)
        if scenario["name"] in images:
            lines += [f"![{scenario['title']}]({images[scenario['name']]})", ""]
    return lines + [END, ""]


def write(record, page):
    """Splices the section into `page`, at its end if there was none, and writes the plots to `plots/` beside it."""
    made = "\n".join(section(record, plots(record, page.parent / "plots")))
    text = page.read_text() if page.exists() else ""
    if BEGIN in text and END in text:
        before, rest = text.split(BEGIN, 1)
        text = before + made.rstrip("\n") + rest.split(END, 1)[1]
    else:
        text = text.rstrip("\n") + "\n\n" + made
    page.write_text(text)
