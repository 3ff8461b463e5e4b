"""What the labs share beside the official clients: where the gateway is, what it has counted, and how a picture is drawn.

Nothing of this is needed to call the gateway: for that, a base URL and a key are enough.
"""

import json
import os
import shutil
import signal
import time
import urllib.request
from pathlib import Path
from xml.sax.saxutils import escape

URL = os.environ["TOLLGATE_URL"]
ADMIN = os.environ["TOLLGATE_ADMIN"]
FOLDER = Path(os.environ["LAB_FOLDER"])
TOLLGATE = os.environ["TOLLGATE"]
DEPLOYMENT = os.environ.get("AZURE_OPENAI_DEPLOYMENT", "gpt-4o")
API_VERSION = "2024-10-21"
SIMULATORS = json.loads(os.environ["LAB_SIMULATORS"])
SERVERS = json.loads(os.environ["LAB_SERVERS"])
DEADLINE_SECONDS = 30


def fetch(url, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"}, method=method), timeout=20) as answer:
        return answer.read().decode()


def behave(simulator, **behaviour):
    """Has a simulator behave so from now on; does nothing where the backend is a real one."""
    if simulator in SIMULATORS:
        fetch(f"{SIMULATORS[simulator]}/__simulator/behaviour", {name.replace("_", "-"): value for name, value in behaviour.items()})


def metrics(prefix):
    """The samples of /metrics whose names begin so: name with labels -> value."""
    lines = (line for line in fetch(f"{ADMIN}/metrics").splitlines() if line.startswith(prefix))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def status():
    return json.loads(fetch(f"{ADMIN}/status"))


def logged(folder="usage"):
    """The lines of a log that are whole, in their order."""
    files = sorted(file for file in (FOLDER / folder).rglob("*") if file.is_file())
    return [json.loads(line) for file in files for line in file.read_text().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]


def wait_until(what, true):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = true()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {DEADLINE_SECONDS} s: {what}")
        time.sleep(0.05)


def reload(file):
    """Puts another file of the lab in the place of its configuration, and tells the gateway (kill -HUP)."""
    def reloads():
        return sum(metrics("tollgate_config_reloads_total").values())

    before = reloads()
    shutil.copy(FOLDER / file, FOLDER / "tollgate.toml")
    os.kill(int(os.environ["TOLLGATE_PID"]), signal.SIGHUP)
    wait_until("the reload", lambda: reloads() > before)
    failure = status()["configuration"]["last_reload"]["failure"]
    if failure:
        raise SystemExit(failure)


# --- pictures

SERVED, REFUSED, OTHER, QUIET = "#2f6f8f", "#b3283f", "#d19a3d", "#5d6878"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 320, 64, 64, 52


def columns(title, bars, unit, legend=(), marks=()):
    """A column for each of (value, colour) over its number; `marks` are (value, text) of lines across. Written where the runner says."""
    most = max([value for value, _colour in bars] + [value for value, _text in marks] + [1]) * 1.08
    inner, ground = HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM
    step = (WIDTH - LEFT - 24) / max(1, len(bars))
    shown = []
    for part in range(5):
        y = ground - inner * part / 4
        shown.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{WIDTH - 24}"/><text class="axis" text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{short(most * part / 4)}</text>')
    for at, (value, colour) in enumerate(bars):
        height = max(2.0, inner * value / most)
        shown.append(f'<rect x="{LEFT + at * step + step * 0.12:.1f}" y="{ground - height:.1f}" width="{step * 0.76:.1f}" height="{height:.1f}" rx="2" fill="{colour}"/>')
    for value, text in marks:
        y = ground - inner * value / most
        shown.append(f'<path class="mark" d="M{LEFT},{y:.1f}H{WIDTH - 24}"/><text class="axis" text-anchor="end" x="{WIDTH - 24}" y="{y - 6:.1f}">{escape(text)}</text>')
    every = max(1, len(bars) // 10)
    shown += [f'<text class="axis" text-anchor="middle" x="{LEFT + (at + 0.5) * step:.1f}" y="{ground + 18}">{at + 1}</text>' for at in range(0, len(bars), every)]
    draw(title, unit, legend, shown)


def rows(title, bars, unit, legend=()):
    """A bar for each of (name, value, colour). Written where the runner says."""
    most = max([value for _name, value, _colour in bars] + [1e-9])
    left, step = 230, (HEIGHT - TOP - 24) / len(bars)
    shown = []
    for at, (name, value, colour) in enumerate(bars):
        y, width = TOP + at * step, max(2.0, (WIDTH - left - 100) * value / most)
        shown.append(f'<text class="name" text-anchor="end" x="{left - 10}" y="{y + step * 0.55:.1f}">{escape(name)}</text>'
                     f'<rect x="{left}" y="{y + step * 0.18:.1f}" width="{width:.1f}" height="{step * 0.6:.1f}" rx="3" fill="{colour}"/>'
                     f'<text class="axis" x="{left + width + 8:.1f}" y="{y + step * 0.55:.1f}">{short(value)}</text>')
    draw(title, unit, legend, shown)


def short(value):
    return f"{value:,.0f}" if value >= 20 else f"{value:.3g}"


def draw(title, unit, legend, shown):
    path = os.environ.get("LAB_PICTURE")
    if not path:
        return
    x, keys = 24, []
    for name, colour in legend:
        keys.append(f'<rect x="{x}" y="{HEIGHT - 22}" width="11" height="11" rx="2" fill="{colour}"/><text class="axis" x="{x + 17}" y="{HEIGHT - 12}">{escape(name)}</text>')
        x += 36 + 7 * len(name)
    Path(path).write_text(f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, {'"': "&quot;"})}">
<style>text{{font:13px system-ui,sans-serif;fill:#1c2430}}.title{{font-size:16px;font-weight:600}}.axis{{font-size:12px;fill:{QUIET}}}.grid{{stroke:#e4e7ec}}.mark{{stroke:{REFUSED};stroke-dasharray:5 4}}</style>
<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#fff" stroke="#e4e7ec"/>
<text class="title" x="24" y="28">{escape(title)}</text><text class="axis" x="24" y="46">{escape(unit)}</text>
{chr(10).join(shown)}
{chr(10).join(keys)}
</svg>
""")
