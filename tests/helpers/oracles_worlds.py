"""Answers a question about a chart, document or window from its facts, by parsing the question's words.

Written apart from the code that asks: nothing of `pruning.scenes` is called.
"""

import re

OTHER = {"box": "boxes", "switch": "switches"}


def answer(world, facts, text):
    words = text.rstrip("?").split()
    for pattern, reply in RULES[world]:
        found = re.fullmatch(pattern, " ".join(words))
        if found and (said := reply(facts, *found.groups())) is not None:
            return said
    raise AssertionError(f"no rule for {text!r}")


def yes(fact):
    return "yes" if fact else "no"


def cell(page, row, column):
    (found,) = [r for r in page.rows if r[0] == row]
    return found[1 + page.head.index(column)] if column else found[1]


def place(page, word):
    (found,) = [i for i, r in enumerate(page.rows) if word in r]
    return str(found + 1)


def beside(page, word, step):
    names = [r[0] for r in page.rows]
    return names[names.index(word) + step]


def items(page):
    sums = ("tax", "tip", "total", "cash", "change")
    return [r for r in page.rows if r[0] not in sums]


DOCUMENTS = [
    (r"what is the title", lambda p: p.title),
    (r"what is the price of (\w+)", lambda p, w: None if p.head else cell(p, w, "")),
    (r"how much is the (\w+)", lambda p, w: cell(p, w, "")),
    (r"what is the (\w+) of (\w+)", lambda p, c, r: cell(p, r, c)),
    (r"what is the (first|last) word in line (\d)", lambda p, e, n: p.rows[int(n) - 1][0 if e == "first" else -1]),
    (r"what is the first word in row (\d)", lambda p, n: p.rows[int(n) - 1][0]),
    (r"what word is in the row (\w+)", lambda p, w: cell(p, w, "")),
    (r"what does the sign say", lambda p: next(r[0] for r in p.rows if len(r) == 1)),
    (r"where does the arrow point to", lambda p: p.arrow),
    (r"what is the (\w+)", lambda p, w: cell(p, w, "")),
    (r"in which (?:line|row) is (\w+)", place),
    (r"what comes after (\w+)", lambda p, w: beside(p, w, 1)),
    (r"what comes before (\w+)", lambda p, w: beside(p, w, -1)),
    (r"which item costs ([\d.]+)", lambda p, v: next(r[0] for r in items(p) if r[1] == v)),
    (r"how many (?:lines|rows) are there", lambda p: str(len(p.rows))),
    (r"how many items are on the list", lambda p: str(len(items(p)))),
    (r"how many words are in line (\d)", lambda p, n: str(len(p.rows[int(n) - 1]))),
    (r"is there a title", lambda p: yes(p.title)),
    (r"is there a number", lambda p: yes(any(c.isdigit() for r in p.rows for w in r for c in w))),
    (r"is there an? (\w+)", lambda p, w: yes(any(w in r for r in p.rows) or w in p.head)),
    (r"is (\w+) on the list", lambda p, w: yes(any(w in r for r in p.rows))),
    (r"does the arrow point (\w+)", lambda p, w: yes(p.arrow == w)),
]


def control(window, name, state):
    assert {"box": "checked", "switch": "on"}[window.control] == state
    return yes(dict(window.settings)[name])


def counted(window, what):
    assert what in (OTHER[window.control], "tabs", "buttons")
    return str(len({"tabs": window.tabs, "buttons": window.buttons}.get(what, window.settings)))


def order(window, one, two):
    names = [name for name, _ in window.buttons]
    return "left" if names.index(one) < names.index(two) else "right"


INTERFACES = [
    (r"is the (\w+) (?:box|switch) (checked|on)", control),
    (r"is (\w+) (checked|on)", control),
    (r"what is in the (\w+) field", lambda w, n: dict(w.fields)[n]),
    (r"what number is on the (\w+) badge", lambda w, n: dict(w.badges)[n]),
    (r"which tab is selected", lambda w: w.active),
    (r"is the (\w+) tab selected", lambda w, n: yes(w.active == n)),
    (r"what is the title", lambda w: w.title),
    (r"what is the (\w+)", lambda w, n: dict(w.fields)[n]),
    (r"how many (\w+) are there", counted),
    (r"how many \w+ are (?:checked|on)", lambda w: str([on for _, on in w.settings].count(True))),
    (r"what color is the (\w+) button", lambda w, n: dict(w.buttons)[n]),
    (r"which button is (\w+)", lambda w, c: next(n for n, color in w.buttons if color == c)),
    (r"is the (\w+) button left or right of the (\w+) button", order),
    (r"is there an? (\w+) button", lambda w, n: yes(n in dict(w.buttons))),
    (r"is (\w+) on the list", lambda w, n: yes(n in {**dict(w.settings), **dict(w.badges)})),
]


def written(chart, value):
    if chart.kind == "pie":
        return f"{value}%"
    return f"{value // 10}.{value % 10}" if chart.tenths else str(value)


def of(chart, name, color=None):
    values = dict(chart.series)[color] if color else chart.series[0][1]
    return values[chart.names.index(name)]


def end(chart, word, color=None):
    best = max if word in ("highest", "largest") else min
    values = dict(chart.series)[color] if color else chart.series[0][1]
    return chart.names[list(values).index(best(values))]


def top_line(chart, word, name):
    best = max if word == "highest" else min
    return best(chart.series, key=lambda s: s[1][chart.names.index(name)])[0]


def painted(chart, color):
    return written(chart, chart.series[0][1][chart.paints.index(color)])


def above(chart, number):
    return str(sum(value > float(number) * (10 if chart.tenths else 1) for value in chart.series[0][1]))


def direction(chart, color=None):
    i = [c for c, _ in chart.series].index(color) if color else 0
    ys = chart.series[i][1]
    xs = chart.across[i] if chart.across else range(len(ys))
    mean_x, mean_y = sum(xs) / len(ys), sum(ys) / len(ys)
    return "rise" if sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) > 0 else "fall"


def number_of(chart, what):
    if what == "lines":
        return str(len(chart.series))
    return str(sum(len(values) for _, values in chart.series))


BIGGER = r"is (\w+) (larger than|smaller than|above|below) (\w+)"
CHARTS = [
    (r"what is the share of (\w+)", lambda c, n: written(c, of(c, n))),
    (r"what is the value of (\w+) at (\w+)", lambda c, s, n: written(c, of(c, n, s))),
    (r"what is the value of the (\w+) bar", painted),
    (r"what is the value of (\w+)", lambda c, n: written(c, of(c, n))),
    (r"which line is (highest|lowest) at (\w+)", top_line),
    (r"which \w+ is (highest|lowest|largest|smallest)", end),
    (r"where is (\w+) (highest|lowest)", lambda c, s, w: end(c, w, s)),
    (r"is (\w+) above (\w+) at (\w+)", lambda c, a, b, n: yes(of(c, n, a) > of(c, n, b))),
    (BIGGER, lambda c, a, w, b: yes((of(c, a) > of(c, b)) == (w in ("larger than", "above")))),
    (r"how many points are on a line", lambda c: str(len(c.series[0][1]))),
    (r"how many bars are above ([\d.-]+)", above),
    (r"how many (bars|slices|points|lines) are there", number_of),
    (r"how many (\w+) points are there", lambda c, s: str(len(dict(c.series)[s]))),
    (r"do the bars rise or fall", direction),
    (r"does the (\w+) line rise or fall", direction),
    (r"do the (\w+) points rise or fall", direction),
]
RULES = {"documents": DOCUMENTS, "interfaces": INTERFACES, "charts": CHARTS}
