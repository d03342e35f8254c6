// What the page remembers, and the charts of it.

import { $, bytes, clock, draw, duration, known, make, ms, number, rate, text, tone } from "./parts.js";

// Seconds: what the charts show, a pause that is drawn as a hole, over how long latency is taken,
// and the rate of a worker.
export const SPAN = 300;
const HOLE = 2.2, RECENT = 10, WHILE = 5;

// -- History: one sample for each message ---------------------------------------------------------

let history = [];
let rates = new Map(); // of a worker: the last moments and its requests by then

export const living = (data) => data.workers.filter((worker) => !["failed", "gone", "exited"].includes(worker.state));
const sum = (list, of) => list.reduce((total, each) => total + of(each), 0);

function most(workers, key) {
  return workers.reduce((top, each) => (top && top[key] >= each[key] ? top : each), null);
}

// The share of requests that took at most so long (ms), within a bucket by a straight line.
function quantile(share, bounds, counts) {
  const total = sum(counts, (count) => count);
  let left = share * total;
  if (!total) return null;
  for (let at = 0; at < bounds.length; at += 1) {
    if (left <= counts[at]) {
      const low = at ? bounds[at - 1] : 0;
      return 1000 * (low + (bounds[at] - low) * (left / counts[at]));
    }
    left -= counts[at];
  }
  return 1000 * bounds[bounds.length - 1]; // or longer: nobody has counted how long
}

function sample(data) {
  const alive = living(data), asked = data.requests, totals = data.totals;
  return {
    time: data.time,
    master: data.master,
    generation: data.generation,
    counts: {
      ok: asked["1xx"] + asked["2xx"] + asked["3xx"], c4: asked["4xx"], c5: asked["5xx"], gone: asked.aborted,
      accepted: totals.connections_accepted, refused: totals.connections_refused + totals.requests_refused,
      shed: totals.requests_shed, stalls: totals.stalls,
      messages: totals.websocket_messages_received + totals.websocket_messages_sent,
    },
    buckets: data.latency.counts,
    rates: null, // a second, of all counts; null as long as there is nothing to compare with
    latency: null, // p50, p95, p99 (ms); null without requests
    hole: true, // whether there is one before it
    reload: false, // whether it is the first of its generation
    flight: sum(alive, (each) => each.in_flight),
    connections: sum(alive, (each) => each.connections),
    websockets: sum(alive, (each) => each.websockets),
    lag: most(alive, "lag_ms"),
    heaviest: most(alive, "memory_bytes"),
    memory: sum(alive, (each) => each.memory_bytes),
    stalled: totals.stalled_us / 1e6,
    fresh: 0, // stalls since the sample before
  };
}

function compare(now, before) {
  const seconds = now.time - before.time, { master, generation, counts } = before;
  now.hole = seconds > HOLE;
  now.reload = now.generation !== generation || now.master !== master;
  // Another master begins with zeros.
  const change = Object.entries(now.counts).map(([name, count]) => [name, count - counts[name]]);
  const anew = now.master !== master || change.some(([, each]) => each < 0);
  now.fresh = anew ? now.counts.stalls : now.counts.stalls - counts.stalls;
  if (!anew) now.rates = Object.fromEntries(change.map(([name, each]) => [name, each / seconds]));
}

function measure(now, bounds) {
  let from = history.length;
  while (from > 0 && now.time - history[from - 1].time <= RECENT && history[from - 1].master === now.master) from -= 1;
  if (from === history.length) return;
  const counts = now.buckets.map((count, at) => count - history[from].buckets[at]);
  if (counts.some((count) => count < 0)) return;
  const found = [0.5, 0.95, 0.99].map((share) => quantile(share, bounds, counts));
  if (found[0] !== null) now.latency = found;
}

export function remember(data) {
  const now = sample(data), before = history.at(-1);
  const passed = before ? now.time - before.time : 1;
  // Another worker may begin with what it has told others a moment ago; also too close for a rate.
  if (passed < 0.2 && passed > -5) return;
  if (passed < 0) history = []; // the clock was set back
  if (history.length) {
    compare(now, history.at(-1));
    measure(now, data.latency.bounds);
  }
  history.push(now);
  while (history[0].time < now.time - SPAN || history.length > 3 * SPAN) history.shift();
  const next = new Map();
  for (const { pid, requests } of living(data)) {
    const points = (rates.get(pid) ?? []).filter((point) => point[0] > now.time - WHILE - 0.5 && point[1] <= requests);
    next.set(pid, [...points, [now.time, requests]]);
  }
  rates = next;
}

export function rateOf(worker) {
  const points = rates.get(worker.pid);
  if (!points || points.length < 2 || !["ready", "holding", "draining"].includes(worker.state)) return null;
  const [first, last] = [points[0], points.at(-1)];
  return (last[1] - first[1]) / (last[0] - first[0]);
}

// -- Charts ---------------------------------------------------------------------------------------
// Each is drawn in a space of 300 x 100 units, however large it is on the screen.

const WIDE = 300;

// What is shown (seconds): not five minutes as long as one has not gone by yet.
const shown = () => [60, 120, SPAN].find((seconds) => seconds >= history.at(-1).time - history[0].time) ?? SPAN;
const across = (each) => (WIDE * (1 - (history.at(-1).time - each.time) / shown())).toFixed(1);

// Runs of samples without a hole, that have a value.
function runs(of) {
  const found = [];
  let open = null;
  for (const each of history) {
    const value = of(each);
    if (value === null) open = null;
    else if (open === null || each.hole) found.push((open = [[each, value]]));
    else open.push([each, value]);
  }
  return found;
}

const along = (run, y) => run.map((point) => `${across(point[0])} ${y(point)}`);
// A point without a neighbour is drawn too, so each line begins with a dot.
const line = (found, y) => found.map((run) => `M${along(run, y).join("L").replace("L", "h.01L")}`).join("");

function area(found, low, high) {
  return found.map((run) => `M${[...along(run, high), ...along(run, low).reverse()].join("L")}Z`).join("");
}

// The next round number.
function above(value, least) {
  const top = Math.max(value, least), unit = 10 ** Math.floor(Math.log10(top));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * unit >= top) * unit;
}

const level = (top) => (value) => (100 - Math.min(1, value / top) * 100).toFixed(1);

function plain(chart, of, least) {
  const found = runs(of);
  const top = above(Math.max(0, ...found.flat().map((point) => point[1])), least), y = level(top);
  chart.path("ok area", area(found, () => 100, (point) => y(point[1])));
  chart.path("ok", line(found, (point) => y(point[1])));
}

// Upright, from the bottom, and never so short that nobody sees them.
function bars(of, top) {
  const y = level(top);
  return history.filter((each) => of(each) > 0).map((each) => `M${across(each)} 100V${Math.min(94, y(of(each)))}`).join("");
}

function drawRequests(chart) {
  const stack = (names) => (each) => each.rates && sum(names, (name) => each.rates[name]);
  const all = ["c5", "gone", "c4", "ok"];
  const top = above(Math.max(0, ...history.map(stack(all))), 5), y = level(top);
  chart.ticks([[0, number(top)], [50, rate(top / 2)], [100, "0"]]);
  all.forEach((name, at) => {
    if (name === "c5") return; // on top of all, below
    const found = runs(stack(all.slice(0, at + 1))), under = stack(all.slice(0, at));
    const some = found.filter((run) => name === "ok" || run.some(([each]) => each.rates[name] > 0));
    chart.path(`${name} area`, area(some, ([each]) => y(under(each)), (point) => y(point[1])));
    chart.path(`${name} line`, line(some, (point) => y(point[1])));
  });
  chart.path("c5 bars", bars((each) => each.rates?.c5, top));
}

function drawLatency(chart) {
  const found = runs((each) => each.latency), values = found.flat().flatMap((point) => point[1]);
  // Whole powers of ten, for latency spans four of them.
  const low = values.length ? Math.floor(Math.log10(Math.max(0.1, Math.min(...values)))) : 0;
  const high = values.length ? Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values)))) : 2;
  const y = (value) => (100 - ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * 100).toFixed(1);
  const powers = Array.from({ length: high - low + 1 }, (_, at) => low + at);
  chart.ticks(powers.map((power) => [Number(y(10 ** power)), power < 3 ? `${10 ** power} ms` : `${10 ** (power - 3)} s`]));
  chart.path("p99 area", area(found, (point) => y(point[1][0]), (point) => y(point[1][2])));
  ["p50", "p95", "p99"].forEach((name, at) => chart.path(name, line(found, (point) => y(point[1][at]))));
}

let pointed = null; // seconds before the latest sample, while somebody points at a chart

function plotted(title) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDE} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const hair = make("i", "hair"), plot = make("div", "plot", svg, hair), paths = new Map();
  let ticks = [], shownTicks = "";
  hair.hidden = true;
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", title);
  const path = (names, d) => {
    if (!paths.has(names)) paths.set(names, svg.appendChild(draw("path", { class: names })));
    if (paths.get(names).getAttribute("d") !== d) paths.get(names).setAttribute("d", d);
  };
  path("rule", "");
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    if (history.length) point(shown() * (1 - (event.clientX - box.left) / box.width));
  });
  plot.addEventListener("pointerleave", () => point(null));
  return {
    plot,
    path,
    ticks(wanted) {
      if (shownTicks === JSON.stringify(wanted)) return;
      shownTicks = JSON.stringify(wanted);
      for (const tick of ticks) tick.remove();
      ticks = wanted.map(([y, words]) => {
        const tick = make("span", "tick", words);
        tick.style.top = `${y}%`;
        return tick;
      });
      plot.append(...ticks);
      path("rule", wanted.map(([y]) => `M0 ${y}H${WIDE}`).join(""));
    },
    frame(each, label) {
      path("reload", history.filter((past) => past.reload).map((past) => `M${across(past)} 0V100`).join(""));
      hair.hidden = pointed === null;
      hair.style.left = `${(across(each) / WIDE) * 100}%`;
      plot.setAttribute("aria-label", `${title}: ${label}`);
    },
  };
}

function point(ago) {
  const before = pointed;
  pointed = ago === null || !history.length ? null : Math.min(shown(), Math.max(0, ago));
  if (pointed !== before) renderCharts();
}

function steer(event) {
  const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 30, PageDown: -30, Home: SPAN, End: -SPAN }[event.key];
  if (event.key === "Escape") point(null);
  else if (step) point((pointed ?? 0) + step);
  else return;
  event.preventDefault();
}

// The two large ones: what their numbers are, and how they are drawn.
const BIG = [
  {
    id: "rps", title: "Requests per second", draw: drawRequests,
    value: (each) => known(each.rates && sum(["ok", "c4", "c5", "gone"], (name) => each.rates[name]), rate),
    unit: "/s",
    keys: [["ok", "1xx\u20133xx"], ["c4", "4xx", "warn"], ["c5", "5xx", "bad"], ["gone", "aborted"]],
    key: (each, name) => known(each.rates && each.rates[name], rate),
  },
  {
    id: "latency", title: "Latency, p99", draw: drawLatency,
    value: (each) => known(each.latency && each.latency[2], ms), unit: "",
    keys: [["p50", "p50"], ["p95", "p95"], ["p99", "p99"]],
    key: (each, name) => known(each.latency && each.latency[{ p50: 0, p95: 1, p99: 2 }[name]], ms),
  },
];

const stallsUpTo = (each) => sum(history, (past) => (past.time <= each.time ? past.fresh : 0));

// The small ones: title, value, what stands below it, how loud that is, and what is drawn.
const several = (each, names) => names.filter(([name]) => each.rates?.[name] > 0).map(([name, word]) => `${rate(each.rates[name])}/s ${word}`);
const TILES = [
  {
    id: "flight", title: "In flight", of: (each) => each.flight, least: 5,
    sub: (each) => several(each, [["shed", "shed"]])[0] ?? "none shed",
    tone: (each) => (each.rates?.shed > 0 ? "bad" : ""),
  },
  {
    id: "connections", title: "Connections", of: (each) => each.connections, least: 5,
    sub: (each) => several(each, [["accepted", "new"], ["refused", "refused"]]).join(", ") || "none new",
    tone: (each) => (each.rates?.refused > 0 ? "warn" : ""),
  },
  {
    id: "websockets", title: "WebSockets", of: (each) => each.websockets, least: 5,
    sub: (each) => several(each, [["messages", "messages"]])[0] ?? "no messages",
  },
  {
    id: "lag", title: "Loop lag, highest", of: (each) => each.lag?.lag_ms ?? null, show: ms, least: 5,
    sub: (each) => (each.lag ? `worker ${each.lag.pid}` : "no worker"),
    loud: (each) => (each.lag?.lag_ms >= 1000 ? "bad" : each.lag?.lag_ms >= 100 ? "warn" : ""),
  },
  {
    id: "memory", title: "Memory, all workers", of: (each) => each.memory, show: bytes, least: 2 ** 20,
    sub: (each) => (each.heaviest ? `at most ${bytes(each.heaviest.memory_bytes)}` : "no worker"),
  },
  {
    id: "stalls", title: "Stalls in five minutes", of: stallsUpTo,
    sub: (each) => (each.counts.stalls ? `${each.counts.stalls} since the start, ${duration(each.stalled)}` : "none since the start"),
    loud: (each) => (stallsUpTo(each) ? "bad" : ""),
    draw: (chart) => {
      chart.path("rule", `M0 100H${WIDE}`);
      chart.path("c5 bars", bars((each) => each.fresh, 1));
    },
  },
];

function build(kind, parts, host) {
  const head = make("header", "", ...parts(kind));
  kind.chart = plotted(kind.title);
  const card = make("figure", "card chart", head, kind.chart.plot);
  card.id = kind.id;
  host.append(card);
  return card;
}

for (const kind of BIG) {
  kind.number = make("b", "value", "\u2013");
  kind.cells = new Map(kind.keys.map(([name]) => [name, make("dd", "", "\u2013")]));
  const keys = kind.keys.map(([name, word]) => make("div", "", make("dt", name, word), kind.cells.get(name)));
  const shown = make("div", "", make("h3", "", kind.title), kind.number);
  const card = build(kind, () => [shown, make("dl", "keys", ...keys)], $("big"));
  card.append(make("div", "axis", make("span", "from", "5 min ago"), make("span", "to", "now")));
  [kind.from, kind.to] = card.lastChild.children;
  kind.chart.plot.tabIndex = 0;
  kind.chart.plot.addEventListener("keydown", steer);
  kind.chart.plot.addEventListener("blur", () => point(null));
}
for (const kind of TILES) {
  kind.number = make("b", "value", "\u2013");
  kind.below = make("p", "sub", "\u00a0");
  build(kind, () => [make("div", "", make("h3", "", kind.title), kind.number, kind.below)], $("tiles"));
}

export function renderCharts() {
  const last = history.at(-1), wanted = last.time - (pointed ?? 0);
  const each = history.reduce((best, past) => (Math.abs(past.time - wanted) < Math.abs(best.time - wanted) ? past : best), last);
  for (const kind of BIG) {
    kind.draw(kind.chart);
    text(kind.number, `${kind.value(each)}${kind.unit && ` ${kind.unit}`}`);
    for (const [name, , loud] of kind.keys) {
      text(kind.cells.get(name), kind.key(each, name));
      tone(kind.cells.get(name), loud && each.rates?.[name] > 0 ? loud : "");
    }
    text(kind.from, `${shown() / 60} min ago`);
    text(kind.to, pointed === null ? "now" : `at ${clock(each.time)}, ${duration(last.time - each.time)} ago`);
    kind.chart.frame(each, kind.keys.map(([name, word]) => `${word} ${kind.key(each, name)}`).join(", "));
  }
  for (const kind of TILES) {
    if (kind.draw) kind.draw(kind.chart);
    else plain(kind.chart, kind.of, kind.least);
    text(kind.number, known(kind.of(each), kind.show ?? number));
    tone(kind.number, kind.loud?.(each));
    text(kind.below, kind.sub(each));
    tone(kind.below, kind.tone?.(each));
    kind.chart.frame(each, `${kind.number.textContent}, ${kind.below.textContent}`);
  }
}
