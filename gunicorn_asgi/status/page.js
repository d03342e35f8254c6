// The status page: the stream, the verdict, the tables.

import { SPAN, living, rateOf, remember, renderCharts } from "./charts.js";
import { $, bytes, clock, duration, known, make, many, ms, number, rate, text, tone } from "./parts.js";

// Seconds: silence until the page says so, and until it asks somebody else.
const STALE = 3, SILENT = 5;
// A request that is open for longer (seconds) is marked; how many are shown.
const OLD = 5, VERY_OLD = 30, SHOWN = 100;

// -- The verdict ----------------------------------------------------------------------------------

const MARKS = {
  good: "M7 12.5l3.5 3.5L17 8.5", busy: "M12 6a6 6 0 1 1-6 6", warn: "M12 6.5v6.5M12 17v.01", bad: "M8 8l8 8M16 8l-8 8",
};

// How loud it is, what is said, and in what detail.
function verdict({ generation, ready, ready_before: before, since_s: since, verdict: outcome }) {
  const first = generation === 1, ago = `${duration(since)} ago`;
  const older = (does) => `${many(before, "worker")} of the generation before ${does}${before === 1 ? "s" : ""}`;
  if (!ready && !before && outcome !== "pending") {
    return ["bad", "Nobody serves", `No worker is ready. Generation ${generation} began ${ago}.`];
  }
  switch (outcome) {
    case "failed": {
      const said = first ? "Start FAILED" : before ? "Reload FAILED, rolled back" : "Reload FAILED";
      return ["bad", said, `Generation ${generation} did not boot, ${ago}.${before ? ` ${older("serve")} on.` : ""}`];
    }
    case "refused":
      return ["warn", "Configuration REFUSED", `Generation ${generation} serves with the one before it, since ${ago}.`];
    case "pending":
      return ["busy", first ? "Starting" : "Reload in progress", `Begun ${ago}.${before ? ` ${older("serve")} until then.` : ""}`];
    default:
      return ["good", first ? "Started" : "Reload succeeded", `Begun ${ago}.${before ? ` ${older("accept")} too.` : ""}`];
  }
}

let opened = ""; // the failure whose traceback was opened last; closed by hand it stays closed

function reloads(counts) {
  const words = [[counts.succeeded, "succeeded"], [counts.rolled_back, "rolled back"], [counts.refused, "refused"]];
  return words.filter(([count]) => count).map(([count, word]) => `${count} ${word}`).join(", ") || "none";
}

const SIGNS = { good: "\u2713", busy: "\u2026", warn: "!", bad: "\u2717" };

// What a tab shows of it, among others.
function renderTab(loud, said, master) {
  document.title = `${SIGNS[loud]} ${said} \u00b7 gunicorn ${master}`;
  const color = encodeURIComponent(getComputedStyle($("verdict")).getPropertyValue("--tone"));
  const icon = `data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='3.5' fill='${color}'/%3E%3C/svg%3E`;
  if ($("icon").href !== icon) $("icon").href = icon;
}

function renderVerdict(data) {
  const [loud, said, detail] = verdict(data), reason = data.reason.trim();
  tone($("verdict"), loud);
  $("mark").setAttribute("d", MARKS[loud]);
  text($("said"), said);
  text($("detail"), detail);
  text($("generation"), data.generation);
  text($("master"), data.master);
  text($("ready"), `${data.ready} of ${data.wanted}${data.ready_before ? `, ${data.ready_before} older` : ""}`);
  tone($("ready"), data.ready < data.wanted && data.verdict === "complete" ? "warn" : "");
  text($("reloads"), reloads(data.reloads));
  $("why").hidden = !reason;
  text($("reason"), reason.split("\n").at(-1));
  text($("trace"), reason);
  const failure = reason && `${data.master} ${data.generation}`;
  if (failure !== opened) $("why").open = Boolean(failure);
  opened = failure;
  renderTab(loud, said, data.master);
}

// -- Tables ---------------------------------------------------------------------------------------
// A column: heading, classes, words, and how loud they are.

const STATES = {
  ready: "good", holding: "warn", booting: "busy", draining: "busy", exiting: "idle", exited: "idle", failed: "bad", gone: "bad",
};
const lagTone = (worker) => (worker.lag_ms >= 1000 ? "bad" : worker.lag_ms >= 100 ? "warn" : "");
const WORKERS = [
  ["Worker", "pid words", (worker) => worker.pid || "\u2013"],
  ["State", "state words", (worker) => worker.state, (worker) => STATES[worker.state] ?? "idle"],
  ["Generation", "", (worker) => worker.generation],
  ["Connections", "", (worker) => number(worker.connections)],
  ["In flight", "", (worker) => number(worker.in_flight)],
  ["WebSockets", "", (worker) => number(worker.websockets)],
  ["Requests", "", (worker) => number(worker.requests)],
  ["per second", "", (worker) => known(rateOf(worker), rate)],
  ["Loop lag", "", (worker) => ms(worker.lag_ms), lagTone],
  ["Memory", "", (worker) => bytes(worker.memory_bytes)],
  ["Age", "quiet", (worker) => duration(worker.age_s)],
];

// A proxy in front may have cut off how the path begins.
const stream = new URL("events", document.baseURI).pathname;
const ownStream = (request) => request.method === "GET" && request.target.length > 6 && stream.endsWith(request.target);
// A stream and a WebSocket last as long as they are wanted.
const ageTone = (request) => (request.progress !== "waiting" || request.age_s < OLD ? "" : request.age_s < VERY_OLD ? "warn" : "bad");
const REQUESTS = [
  ["Age", "age words", (request) => duration(request.age_s), ageTone],
  ["Progress", "words", (request) => request.progress],
  ["Request", "target words", (request) => `${request.method} ${request.target}${ownStream(request) ? " (a status page)" : ""}`],
  ["Worker", "worker", (request) => request.pid],
  ["Client", "client mono words", (request) => request.client || "unix socket"],
  ["Request id", "id mono words", (request) => request.request_id || "\u2013"],
];

// Rows stay the same elements as long as what they show stays: selections and open details live on.
function table(host, columns, keyOf, more) {
  const head = make("tr", "", ...columns.map(([title, names]) => {
    const cell = make("th", names.includes("words") ? "words" : "", title);
    cell.setAttribute("scope", "col");
    cell.setAttribute("role", "columnheader");
    return cell;
  }));
  head.setAttribute("role", "row");
  host.append(make("thead", "", head));
  host.firstChild.setAttribute("role", "rowgroup");
  let rows = new Map();
  const add = () => {
    const row = make("tr", "", ...columns.map(([title, names]) => {
      const cell = make("td", names, make("span", ""));
      cell.dataset.label = title;
      cell.setAttribute("role", "cell");
      return cell;
    }));
    row.setAttribute("role", "row");
    const group = make("tbody", "", row);
    group.setAttribute("role", "rowgroup");
    return group;
  };
  return (items) => {
    const next = new Map(), alike = new Map();
    for (const item of items) {
      const name = keyOf(item), key = `${alike.get(name) ?? 0} ${name}`;
      alike.set(name, (alike.get(name) ?? 0) + 1);
      const group = rows.get(key) ?? add();
      next.set(key, group);
      columns.forEach(([, , words, loud], at) => {
        const cell = group.firstChild.children[at];
        text(cell.firstChild, words(item));
        if (loud) tone(cell, loud(item));
      });
      more?.(group, item, columns.length);
    }
    for (const [key, group] of rows) if (!next.has(key)) group.remove();
    rows = next;
    let at = 0;
    for (const group of next.values()) {
      at += 1;
      if (host.children[at] !== group) host.insertBefore(group, host.children[at] ?? null);
    }
  };
}

function renderError(group, worker, width) {
  if (!worker.error) return;
  if (group.children.length === 1) {
    const trace = make("pre", ""), cell = make("td", "error", make("details", "", make("summary", ""), trace));
    trace.tabIndex = 0;
    cell.colSpan = width;
    cell.setAttribute("role", "cell");
    group.append(make("tr", "", cell));
    group.lastChild.setAttribute("role", "row");
  }
  text(group.querySelector("summary"), worker.error.trim().split("\n").at(-1));
  text(group.querySelector("pre"), worker.error);
}

const showWorkers = table($("workers"), WORKERS, (worker) => `${worker.generation} ${worker.pid}`, renderError);
const showRequests = table($("requests"), REQUESTS, (each) => `${each.pid} ${each.request_id} ${each.client} ${each.method} ${each.target}`);

function renderTables(data) {
  showWorkers(data.workers);
  text($("working-count"), many(living(data).length, "living worker").replace("living workers", "living"));
  $("no-workers").hidden = data.workers.length > 0;
  $("workers").hidden = !data.workers.length;
  const requests = [...data.open_requests].sort((one, other) => ownStream(one) - ownStream(other) || other.age_s - one.age_s);
  showRequests(requests.slice(0, SHOWN));
  const old = requests.filter(ageTone).length;
  text($("asked-count"), [requests.length > SHOWN ? `the oldest ${SHOWN} of ${requests.length}` : `${requests.length}`,
    old ? `${old} older than ${OLD} s` : ""].filter(Boolean).join(", "));
  $("no-requests").hidden = requests.length > 0;
  $("requests").hidden = !requests.length;
  // It grows only: else the page would jump under whoever reads its end.
  $("asked-box").style.minHeight = `${$("asked-box").offsetHeight}px`;
}

// -- The stream -----------------------------------------------------------------------------------

let latest = null, source = null;
// Seconds: when there was data last, when a connection was tried, since when nobody looks, or does.
let heard = 0, tried = 0, turned = 0;
const seconds = () => performance.now() / 1000;

function render() {
  renderVerdict(latest);
  renderTables(latest);
  renderCharts();
}

function take(event) {
  heard = seconds();
  latest = JSON.parse(event.data);
  remember(latest);
  if (!document.hidden) {
    render();
    pulse();
  }
}

// EventSource alone would wait for three seconds, give up after an error status, and wait for ever
// for a worker that is stuck. A new connection comes to one that is not.
function connect() {
  source?.close();
  tried = seconds();
  source = new EventSource("events");
  source.onmessage = take;
  source.onerror = () => source.close();
}

function pulse() {
  const now = seconds(), closed = source.readyState === EventSource.CLOSED;
  if (document.hidden && now - turned > SPAN) {
    source.close(); // nobody has looked for as long as the charts reach back
  } else if ((closed && now - tried > 1) || now - Math.max(heard, tried) > SILENT) {
    connect();
  }
  const lost = now - Math.max(heard, turned) > STALE;
  $("lost").hidden = !lost;
  $("page").classList.toggle("stale", lost);
  tone($("live"), lost ? "bad" : latest ? "good" : "idle");
  text($("live"), lost ? "no data" : latest ? `live, ${clock(latest.time)}` : "connecting");
  if (!lost) return;
  text($("lost-said"), latest ? `Connection lost. What you see is from ${clock(latest.time)}.` : "The server sends no data.");
  text($("lost-age"), latest ? `${duration(now - heard)} old, trying again.` : "Trying again.");
}

document.addEventListener("visibilitychange", () => {
  turned = seconds();
  if (document.hidden) return;
  if (latest) render();
  pulse();
});
// What went wrong stands at its end.
$("why").addEventListener("toggle", () => { $("trace").scrollTop = $("trace").scrollHeight; });
connect();
setInterval(pulse, 500);
