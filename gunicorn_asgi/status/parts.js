// What every part of the page uses: nodes, and numbers for people.

export const $ = (id) => document.getElementById(id);

// Everything that comes from outside goes through here, as text.
export function text(node, value) {
  if (node.textContent !== String(value)) node.textContent = value;
}

export function make(tag, names, ...inside) {
  const node = document.createElement(tag);
  if (names) node.className = names;
  node.append(...inside);
  return node;
}

export function draw(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  return node;
}

export function tone(node, value) {
  if (value) node.dataset.tone = value;
  else delete node.dataset.tone;
}

// -- Numbers for people ---------------------------------------------------------------------------

export function number(value) {
  if (value < 9999.5) return String(Math.round(value));
  const [unit, by] = [["G", 1e9], ["M", 1e6]].find((each) => value >= each[1]) ?? ["k", 1e3];
  const shown = value / by;
  return `${shown.toFixed(shown < 9.995 ? 2 : shown < 99.95 ? 1 : 0)} ${unit}`;
}

export const rate = (value) => (value && value < 9.95 ? value.toFixed(1) : number(value));

export function ms(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(value < 9995 ? 2 : 1)} s`;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function bytes(value) {
  const mib = value / 2 ** 20, gib = mib / 1024;
  return mib < 1023.5 ? `${mib.toFixed(mib < 99.95 ? 1 : 0)} MiB` : `${gib.toFixed(gib < 99.95 ? 2 : 0)} GiB`;
}

export function duration(seconds) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${two((seconds % 86400) / 3600)} h`;
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hourCycle: "h23" });
export const many = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
export const known = (value, shown) => (value === null ? "\u2013" : shown(value));
