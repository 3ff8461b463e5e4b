// What goes on now, as /events tells it once a second. Every text is set as text: names come from configurations and
// from callers.
"use strict";

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** An element with a class and children; strings are text. */
const el = (tag, kind, ...children) => {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
};

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const number = (value) => (value < 100000 ? whole.format(value) : short.format(value));
const rate = (value) => (value === 0 || value >= 10 ? whole.format(Math.round(value)) : value.toFixed(1));

const duration = (ms) => {
  const s = Math.ceil(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.round(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
};
const ago = (ms) => (ms < 1500 ? "now" : `${duration(ms)} ago`);
const clock = (unixSeconds) => new Date(unixSeconds * 1000).toLocaleString("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

// --- what was, for lines and rates

const history = { seconds: 300, requests: [], refused: [], tokens: [] };
let former = null;
/** The last ten pictures: a rate is a difference over them. */
const window10 = [];

const remember = (now) => {
  if (former) {
    for (const name of ["requests", "refused", "tokens"]) {
      history[name].push(Math.max(0, now[name] - former[name]));
      if (history[name].length > history.seconds) history[name].shift();
    }
  }
  former = now;
  window10.push(now);
  if (window10.length > 11) window10.shift();
};
const last = (list, count) => list.slice(-count).reduce((sum, value) => sum + value, 0);
/** Per second over the last ten, of what `read` finds in a picture; null before there are two. */
const perSecond = (read) => {
  const [first, end] = [window10[0], window10[window10.length - 1]];
  const [from, to] = [read(first), read(end)];
  if (first === end || from === undefined || to === undefined) return null;
  return Math.max(0, to - from) / Math.max(1, (end.time_ms - first.time_ms) / 1000);
};

const line = (values) => {
  const svg = document.createElementNS(SVG, "svg");
  // The last five minutes; of a process that is younger, its life, and a minute at least.
  const width = Math.min(history.seconds, Math.max(60, values.length));
  svg.setAttribute("viewBox", `0 0 ${width - 1} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const most = Math.max(1, ...values);
  const from = width - values.length;
  const points = values.map((value, at) => `${from + at},${(38 - (value / most) * 36).toFixed(1)}`);
  if (points.length > 1) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", "area");
    path.setAttribute("d", `M${from},39 L${points.join(" L")} L${width - 1},39`);
    svg.append(path);
  }
  return svg;
};

// --- the sections

const figure = (name, value, unit, beneath, bad) =>
  el("div", bad ? "figure bad" : "figure", el("div", "name", name), el("div", "value", value, el("small", "", unit)), beneath);

const figures = (now) => {
  const refused = last(history.refused, 5) / 5;
  const open = now.backends.filter((backend) => backend.state !== "closed").length;
  return [
    figure("Requests", rate(last(history.requests, 5) / 5), "a second", line(history.requests)),
    figure("Refused", rate(refused), "a second", line(history.refused), refused > 0),
    figure("Tokens", number(last(history.tokens, 60)), "a minute", line(history.tokens)),
    figure("In flight", number(now.in_flight), now.in_flight === 1 ? "request" : "requests",
      el("div", "beside", `${number(now.streams)} open ${now.streams === 1 ? "stream" : "streams"}, `,
        open ? `${open} of ${now.backends.length} backends not closed` : "every backend closed")),
  ];
};

const banners = (now) => {
  const shown = [];
  const banner = (kind, text, detail) => shown.push(el("div", `banner ${kind}`, text, detail ? el("pre", "", detail) : null));
  if (now.readiness === "draining") banner("", "Draining: told to stop, and ends when its requests have ended.");
  else if (now.readiness === "starting") banner("", "Starting: not ready yet.");
  else if (now.readiness !== "ready") banner("bad", "Not ready: no pool has a usable backend.");
  const reload = now.configuration.last_reload;
  if (reload && reload.failure) {
    banner("bad", `The configuration wasn't reloaded at ${clock(reload.at)}; the former one stays.`, reload.failure);
  }
  if (now.redis && !now.redis.up) banner("bad", "Redis doesn't answer: each limit acts by its on-redis-error.");
  if (now.usage_log_dropped) banner("bad", `The usage log lost ${number(now.usage_log_dropped)} lines.`);
  return shown;
};

let showAll = false;
const FEW = 6;

const refusal = (r) => {
  const waits = r.retry_after_ms && r.retry_after_ms > r.last_ms_ago ? r.retry_after_ms - r.last_ms_ago : 0;
  const who = el("div", "who",
    el("span", "", el("b", "", r.subscription || (r.address ? `no subscription, from ${r.address}` : "no subscription"))),
    r.model ? el("span", "", r.model) : null,
    r.api ? el("span", "", r.operation === "other" ? r.api : `${r.operation} of ${r.api}`) : null,
    r.policy ? el("span", "", "policy ", el("code", "", r.policy)) : null);
  const isLimit = r.status === 429 || r.code === "insufficient_quota";
  const kind = isLimit ? "" : r.status >= 500 ? "s5" : "s4";
  const shown = el("article", r.last_ms_ago > 120000 ? "refusal old" : "refusal",
    el("div", `status ${kind}`, String(r.status)),
    el("div", "why", r.why, waits ? el("span", "tag", `again in ${duration(waits)}`) : null),
    el("div", "when", el("b", "", ago(r.last_ms_ago)), r.count > 1 ? `${number(r.count)} times in ${duration(r.first_ms_ago)}` : "once"),
    who,
    el("div", "told", r.look, " ", el("span", "wide", `The caller was told: “${r.told}” `),
      el("span", "ids", "Code ", el("code", "", r.code), ", last request ", el("code", "", r.request_id), ".")));
  const tag = shown.querySelector(".why .tag");
  if (tag) tag.before(" ");
  return shown;
};

const refusals = (now) => {
  if (!now.refusals.length) return [el("p", "empty", "None since the start.")];
  // Those that go on stay in their places, or they would dance: the most frequent first, then the others by age.
  const goesOn = (r) => r.last_ms_ago < 10000;
  const sorted = [...now.refusals].sort((a, b) =>
    goesOn(b) - goesOn(a) || (goesOn(a) ? b.count - a.count : a.last_ms_ago - b.last_ms_ago));
  const some = showAll ? sorted : sorted.slice(0, FEW);
  const shown = [el("div", "", ...some.map(refusal))];
  if (now.refusals.length > FEW) {
    const more = el("button", "more", showAll ? "Show fewer" : `Show ${now.refusals.length - FEW} more`);
    more.addEventListener("click", () => { showAll = !showAll; render(former); });
    shown.push(more);
  }
  return shown;
};

const meter = (share, label) => {
  const made = el("div", share >= 1 ? "meter bad" : share >= 0.8 ? "meter warn" : "meter");
  made.style.setProperty("--fill", `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`);
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  return made;
};

const PERIODS = { hour: "an hour", day: "a day", week: "a week", month: "a month", year: "a year" };

/** Tokens; or, where a limit counts money, dollars. */
const amount = (l) => {
  if (!l.unit_nano_usd) return number;
  return (units) => {
    const usd = (units * l.unit_nano_usd) / 1e9;
    return usd.toLocaleString("en", { style: "currency", currency: "USD", maximumFractionDigits: usd < 1 ? 4 : 2 });
  };
};

const measured = (name, used, of, unit, spent, detail, shown = number) => {
  const share = of ? used / of : 1;
  const text = spent ? detail : `${shown(Math.max(0, of - used))} left of ${shown(of)} ${unit}`;
  const side = el("div", spent ? "side bad" : share >= 0.8 ? "side warn" : "side", text);
  return el("div", "row", el("div", "name", name), side, meter(spent ? 1 : share, `${shown(used)} of ${shown(of)} ${unit}`));
};

const limit = (l, now) => {
  const about = [
    l.tokens_per_minute ? `${number(l.tokens_per_minute)} tokens a minute` : "",
    l.token_quota ? `${amount(l)(l.token_quota)} ${PERIODS[l.period]}` : "",
  ].filter(Boolean).join(", ");
  const rows = l.fullest.flatMap((s) => [
    s.minute && measured(s.key, s.minute.of - s.minute.left, s.minute.of, "a minute", s.minute.opens_in_ms > 0 || s.minute.left === 0,
      s.minute.opens_in_ms ? `${number(s.minute.over)} over, opens in ${duration(s.minute.opens_in_ms)}` : "none left"),
    s.quota && measured(s.minute ? "" : s.key, s.quota.of - s.quota.left, s.quota.of, PERIODS[l.period], s.quota.left === 0,
      `used up, renewed in ${duration(s.quota.renewed_at * 1000 - now.time_ms)}`, amount(l)),
  ].filter(Boolean));
  const rest = l.counters - l.fullest.length;
  return el("div", "group",
    el("div", "group-head", el("span", "name", l.name), el("span", "about", about), l.mode === "observe" ? el("span", "tag", "observes") : null),
    rows.length ? el("div", "", ...rows) : el("p", "empty", "Nothing used."),
    rest > 0 ? el("p", "empty", `and ${number(rest)} more that are less full`) : null);
};

const limits = (now) => now.limits.length ? now.limits.map((l) => limit(l, now)) : [el("p", "empty", "None are configured.")];

const breaker = (b) => {
  const heard = b.heard ? ", heard" : "";
  if (b.state === "open") return el("div", "state bad", `open (${b.reason}${heard}), closes in ${duration(b.closes_in_ms)}`);
  if (b.state === "half-open") return el("div", "state warn", `half-open (${b.reason}${heard}), probing`);
  if (b.unavailable) return el("div", "state warn", "closed, short of quota");
  return el("div", "state", "closed, takes calls");
};

const backends = (now) => {
  const named = new Map(now.backends.map((backend) => [backend.name, backend]));
  const member = (b, place) => {
    const calls = perSecond((picture) => picture.backends.find((other) => other.name === b.name)?.attempts);
    const left = b.remaining_tokens === undefined ? "" : `, ${number(b.remaining_tokens)} tokens left there`;
    return el("div", "row", el("div", "name", b.name), breaker(b),
      el("div", "about", `${place}${b.host}${left}`),
      el("div", "side", calls === null ? "" : `${rate(calls)} calls a second`));
  };
  const group = (name, rows) => el("div", "group", el("div", "group-head", name), ...rows);
  const pools = now.pools.map((pool) => {
    const members = [...pool.members].sort((a, b) => a.priority - b.priority).filter((m) => named.has(m.backend));
    const rows = members.map((m) => member(named.get(m.backend), `priority ${m.priority}, weight ${m.weight}, `));
    return group(el("span", "name", pool.name), rows);
  });
  const pooled = new Set(now.pools.flatMap((pool) => pool.members.map((m) => m.backend)));
  const others = now.backends.filter((b) => !pooled.has(b.name));
  if (others.length) pools.push(group(el("span", "about", "in no pool"), others.map((b) => member(b, ""))));
  return pools;
};

const table = (head, rows) => {
  const cells = (tag, row) => el("tr", "", ...row.map((cell) => (cell instanceof Node ? cell : el(tag, "", cell))));
  return el("table", "", el("thead", "", cells("th", head)), el("tbody", "", ...rows.map((row) => cells("td", row))));
};

const subscriptions = (now) => {
  const rows = now.subscriptions.map((s) => [
    el("td", "", s.name, s.suspended ? " " : "", s.suspended ? el("span", "tag", "suspended") : null),
    el("td", "wide", s.product || ""),
    number(s.in_flight), number(s.requests), el("td", s.refused ? "bad" : "", number(s.refused)), number(s.tokens),
  ]);
  if (!rows.length) return [el("p", "empty", "None are configured.")];
  const rest = now.subscriptions_of - rows.length;
  return [
    table(["Name", el("th", "wide", "Product"), "In flight", "Calls", "Refused", "Tokens"], rows),
    rest > 0 ? el("p", "empty", `and ${number(rest)} more with fewer calls`) : "",
  ];
};

const facts = (list) => el("dl", "facts", ...list.filter(Boolean).flatMap(([name, value, kind]) => [el("dt", "", name), el("dd", kind || "", value)]));

const caches = (now) => now.caches.map((c) => {
  const found = c.mode === "observe" ? c.would_hit : c.hit;
  const asked = c.hit + c.would_hit + c.miss;
  return el("div", "group",
    el("div", "group-head", el("span", "name", c.name), c.mode === "observe" ? el("span", "tag", "observes") : null),
    facts([
      [c.mode === "observe" ? "Would have hit" : "Hits", asked ? `${number(found)} of ${number(asked)} (${Math.round((100 * found) / asked)} %)` : "nothing asked"],
      ["Answers kept", c.kept_in === "redis" ? "in Redis, for all replicas" : `${number(c.entries || 0)} of at most ${number(c.max_entries)}`],
      ["Tokens saved", number(c.saved_tokens)],
      c.skip ? ["Not looked up", number(c.skip)] : null,
      c.error ? ["Failed", number(c.error), "bad"] : null,
    ]));
});

const configuration = (now) => {
  const { revision, source, loaded_at: loadedAt, last_reload: reload } = now.configuration;
  return [facts([
    ["Revision", el("code", "", revision)],
    ["Loaded", clock(loadedAt)],
    ["From", source],
    ["Last reload", reload ? `${reload.failure ? "failed" : "taken"}, ${clock(reload.at)}` : "none since the start", reload && reload.failure ? "bad" : ""],
    ["Counters", now.redis ? `Redis ${now.redis.up ? "answers" : "doesn't answer"}, ${number(now.redis.replicas)} ${now.redis.replicas === 1 ? "replica" : "replicas"}` : "in this process", now.redis && !now.redis.up ? "bad" : ""],
    ["Bodies held", `${number(Math.round(now.buffered_bytes / 1024))} KiB`],
    ["Version", now.version],
  ])];
};

const SECTIONS = { banners, figures, refusals, limits, backends, subscriptions, caches, configuration };

const render = (now) => {
  const selection = document.getSelection();
  for (const [id, make] of Object.entries(SECTIONS)) {
    const section = byId(id);
    // Whoever copies an id from a section keeps it as it is.
    if (selection && !selection.isCollapsed && section.contains(selection.anchorNode)) continue;
    if (section.contains(document.activeElement) && id === "refusals" && document.activeElement.matches(":focus-visible")) {
      section.replaceChildren(...make(now));
      section.querySelector("button")?.focus();
    } else {
      section.replaceChildren(...make(now));
    }
  }
  byId("cache-card").hidden = !now.caches.length;
  byId("gateway").textContent = [now.gateway.id, now.gateway.location].filter(Boolean).join(", ");
  document.title = `Tollgate ${now.gateway.id}`;
};

// --- the connection

const AGAIN_MS = 3000;

const connect = () => {
  const events = new EventSource("events");
  events.addEventListener("history", (event) => {
    Object.assign(history, JSON.parse(event.data));
    former = null;
    window10.length = 0;
  });
  events.addEventListener("now", (event) => {
    const now = JSON.parse(event.data);
    remember(now);
    document.body.className = "live";
    byId("connection").textContent = "live";
    render(now);
  });
  events.addEventListener("error", () => {
    if (document.body.className !== "lost") {
      document.body.className = former ? "lost" : "waiting lost";
      byId("connection").textContent = `no connection since ${new Date().toLocaleTimeString("en-GB")}`;
    }
    events.close();
    setTimeout(connect, AGAIN_MS);
  });
};
connect();
