"use strict";
// Draws the map of one snapshot; the rules of lines and colours are those of picture.rs.

const snapshot = JSON.parse(document.getElementById("snapshot").textContent);
const derived = JSON.parse(document.getElementById("derived").textContent);
const element = (id) => document.getElementById(id);

// ---- Quantities ----

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit + 1 < units.length) {
    bytes /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${bytes} B` : `${(Math.floor(bytes * 10) / 10).toFixed(1)} ${units[unit]}`;
}

function duration(ms) {
  const steps = [[864e5 * 10, 864e5, "d"], [36e6, 36e5, "h"], [6e5, 6e4, "min"], [1e4, 1e3, "s"]];
  for (const [from, divisor, unit] of steps) {
    if (ms >= from) return `${Math.floor(ms / divisor)} ${unit}`;
  }
  return `${ms} ms`;
}

const share = (part, whole) => {
  const percent = whole > 0 ? Math.round((part / whole) * 100) : 0;
  return percent === 0 && part > 0 ? "< 1 %" : `${percent} %`;
};
const count = (number) => number.toLocaleString("en");
const hex = (address) => `0x${address.toString(16)}`;

// ---- Lines and pieces ----

const LINE = 4 << 20;
const MOST_LINES = 1024;
const PAGE = 4096;

const lines = [];
for (const arena of snapshot.arenas) {
  for (const segment of arena.segments) {
    const pieces = segment.zones.map((zone) => ({ start: zone.start, bytes: zone.bytes, zone, arena: arena.number }));
    lines.push({ start: segment.start, bytes: segment.bytes, pieces });
  }
}
for (const large of snapshot.large) {
  const zone = { ...large, kind: large.is_live ? "large" : "kept" };
  const end = large.start + Math.min(large.bytes, MOST_LINES * LINE);
  for (let start = large.start; start < end; start += LINE) {
    const bytes = Math.min(LINE, end - start);
    lines.push({ start, bytes, pieces: [{ start, bytes, zone }] });
  }
}

const KINDS = {
  header: "the segment's tables",
  slab: "slab",
  medium: "a medium block",
  dirty: "free pages, kept for reuse",
  clean: "free pages without memory",
  unknown: "unknown",
  large: "a large block",
  kept: "a large mapping, free, kept for reuse",
};

// ---- Colours ----

const FULL = [0x1f, 0x78, 0x9b];
const EMPTY = [0xf2, 0xc1, 0x4e];
const DIRTY = [0xd9, 0x53, 0x4f];
const CLEAN = [0xc9, 0xd1, 0xd6];
const TABLES = [0x7b, 0x5e, 0xa7];
const NEUTRAL = [0x8a, 0x97, 0xa0];

const css = (colour) => `rgb(${colour.join(",")})`;

function mix(from, to, by) {
  by = Math.min(1, Math.max(0, by));
  return from.map((part, index) => Math.round(part + (to[index] - part) * by));
}

function hue(degrees) {
  const angle = (degrees % 360) / 60;
  return [2, 0, 4].map((shift) => {
    const place = (angle + shift) % 6;
    return Math.floor(70 + 130 * Math.min(1, Math.max(0, Math.min(place, 4 - place))));
  });
}

const classColour = (bytes) => hue(Math.floor(Math.log2(bytes)) * 47 + (bytes % 97));
const ownerColour = (owner) => hue(owner * 137 + 200);
const ageColour = (ms) => mix(EMPTY, DIRTY, (Math.log10(Math.max(ms, 100)) - 2) / 3.8);

function colourOf(zone, by) {
  const aged = (otherwise) => (by === "age" && zone.free_ms !== undefined ? ageColour(zone.free_ms) : otherwise);
  switch (zone.kind) {
    case "header":
      return TABLES;
    case "clean":
    case "unknown":
      return CLEAN;
    case "dirty":
    case "kept":
      return aged(DIRTY);
    case "medium":
    case "large":
      return by === "occupancy" ? FULL : NEUTRAL;
  }
  if (by === "occupancy") return mix(EMPTY, FULL, zone.out / Math.max(1, zone.capacity));
  if (by === "class") return classColour(zone.block_bytes);
  if (by === "age") return aged(NEUTRAL);
  return zone.owner === undefined ? NEUTRAL : ownerColour(zone.owner);
}

const FREE_KEYS = [["free pages and mappings", DIRTY], ["free, no memory", CLEAN], ["tables", TABLES]];
const used = new Set(snapshot.classes.map((entry) => entry.block_bytes));
const LEGENDS = {
  occupancy: [["slab all in use, medium, large", FULL], ["slab half in use", mix(EMPTY, FULL, 0.5)],
    ["slab all free", EMPTY], ...FREE_KEYS],
  class: [...[...used].slice(0, 12).map((bytes) => [`${bytes}`, classColour(bytes)]),
    ...(used.size > 12 ? [["and others", NEUTRAL]] : [["medium, large", NEUTRAL]])],
  age: [["free for 0.1 s", ageColour(100)], ["10 s", ageColour(1e4)], ["10 min", ageColour(6e5)],
    ["nothing free, or not known", NEUTRAL], ["free, no memory", CLEAN]],
  owner: [...snapshot.caches.slice(0, 12).map((cache) => [`cache ${cache.number}`, ownerColour(cache.number)]),
    ["none or others", NEUTRAL]],
};

// ---- The view: which addresses the canvas shows ----

const canvas = element("map");
const context = canvas.getContext("2d");
const MARGIN = 132;
const MOST = 4096;
const view = { zoom: 1, left: 0, top: 0, by: "occupancy", only: null, at: null };

const width = () => Math.max(1, canvas.clientWidth - MARGIN);
const scale = () => (width() * view.zoom) / LINE;
const basePitch = () => Math.min(34, Math.max(3, (canvas.clientHeight - 4) / Math.max(1, lines.length)));
const pitch = () => Math.min(64, basePitch() * Math.sqrt(view.zoom));

function keepInside() {
  view.zoom = Math.min(MOST, Math.max(1, view.zoom));
  view.left = Math.min(LINE - LINE / view.zoom, Math.max(0, view.left));
  view.top = Math.min(Math.max(0, lines.length * pitch() - canvas.clientHeight + 4), Math.max(0, view.top));
}

function zoomBy(factor, x = MARGIN + width() / 2, y = canvas.clientHeight / 2) {
  const bytes = view.left + (x - MARGIN) / scale();
  const line = (view.top + y) / pitch();
  view.zoom = Math.min(MOST, Math.max(1, view.zoom * factor));
  view.left = bytes - (x - MARGIN) / scale();
  view.top = line * pitch() - y;
  draw();
}

function fit(line, piece) {
  view.zoom = Math.min(MOST, Math.max(1, (LINE / piece.bytes) * 0.9));
  view.left = piece.start - lines[line].start - (LINE / view.zoom - piece.bytes) / 2;
  view.top = (line + 0.5) * pitch() - canvas.clientHeight / 2;
  draw();
}

function pieceAt(x, y) {
  const index = Math.floor((y + view.top) / pitch());
  const line = lines[index];
  if (!line || x < MARGIN) return null;
  const address = line.start + view.left + (x - MARGIN) / scale();
  const number = line.pieces.findIndex((piece) => address >= piece.start && address < piece.start + piece.bytes);
  return number < 0 ? null : { line: index, number, piece: line.pieces[number], address: Math.floor(address) };
}

// ---- Drawing ----

canvas.style.height = `${Math.min(460, Math.max(180, lines.length * 34 + 4))}px`;

function draw() {
  keepInside();
  const dots = window.devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(wide * dots) || canvas.height !== Math.round(high * dots)) {
    canvas.width = Math.round(wide * dots);
    canvas.height = Math.round(high * dots);
  }
  const style = getComputedStyle(document.documentElement);
  const [page, ink, soft] = ["--page", "--ink", "--soft"].map((name) => style.getPropertyValue(name).trim());
  context.setTransform(dots, 0, 0, dots, 0, 0);
  context.fillStyle = page;
  context.fillRect(0, 0, wide, high);
  const step = pitch();
  const first = Math.max(0, Math.floor(view.top / step));
  const last = Math.min(lines.length, Math.ceil((view.top + high) / step));
  context.save();
  context.beginPath();
  context.rect(MARGIN, 0, wide - MARGIN, high);
  context.clip();
  for (let index = first; index < last; index += 1) {
    for (const piece of lines[index].pieces) drawPiece(piece, lines[index], index * step - view.top, step, page);
  }
  context.restore();
  context.font = "11px ui-monospace, monospace";
  context.textBaseline = "middle";
  context.fillStyle = soft;
  const every = Math.max(1, Math.ceil(13 / step));
  for (let index = first; index < last; index += 1) {
    if (index % every === 0) context.fillText(hex(lines[index].start), 6, index * step - view.top + step / 2);
  }
  if (view.at) {
    const { line, piece } = view.at;
    context.strokeStyle = ink;
    context.lineWidth = 2;
    const x = MARGIN + (piece.start - lines[line].start - view.left) * scale();
    context.strokeRect(Math.max(MARGIN, x), line * step - view.top, piece.bytes * scale(), Math.max(3, step - 1));
  }
  element("zoom").textContent = `${view.zoom < 10 ? view.zoom.toFixed(1).replace(/\.0$/, "") : Math.round(view.zoom)}×`;
}

function drawPiece(piece, line, y, step, page) {
  const x = MARGIN + (piece.start - line.start - view.left) * scale();
  const long = piece.bytes * scale();
  if (x + long < MARGIN || x > canvas.clientWidth) return;
  const gap = step > 8 ? 2 : step > 4 ? 1 : 0;
  const colour = colourOf(piece.zone, view.by);
  const faded = view.only !== null && piece.zone.block_bytes !== view.only;
  context.globalAlpha = faded ? 0.18 : 1;
  context.fillStyle = css(colour);
  context.fillRect(x, y, Math.max(0.5, long - (long > 4 ? 1 : 0)), step - gap);
  if (PAGE * scale() > 7 && step > 10) {
    context.fillStyle = page;
    const begin = Math.max(0, Math.floor((MARGIN - x) / (PAGE * scale())));
    for (let number = begin; number < piece.bytes / PAGE; number += 1) {
      const edge = x + number * PAGE * scale();
      if (edge > canvas.clientWidth) break;
      if (number > 0) context.fillRect(edge, y, 0.5, 4);
    }
  }
  if (long > 74 && step > 14) {
    const light = colour[0] * 0.3 + colour[1] * 0.59 + colour[2] * 0.11 > 140;
    context.fillStyle = light ? "#10161a" : "#ffffff";
    context.font = "11px ui-monospace, monospace";
    context.textBaseline = "middle";
    const zone = piece.zone;
    const words = zone.kind === "slab" ? `${zone.block_bytes} B  ${share(zone.out, zone.capacity)}` : zone.kind;
    context.fillText(words, Math.max(x, MARGIN) + 5, y + (step - gap) / 2, long - 8);
  }
  context.globalAlpha = 1;
}

// ---- The panel ----

function show(at) {
  view.at = at;
  const rows = at ? describe(at) : [["Point at the map", ""]];
  element("details").replaceChildren(...rows.flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
  draw();
}

function describe({ piece, address }) {
  const zone = piece.zone;
  const rows = [["What", KINDS[zone.kind] ?? zone.kind], ["From", hex(zone.start)], ["To", hex(zone.start + zone.bytes)],
    ["Size", size(zone.bytes)], ["In memory", `${size(zone.resident_bytes)} (${share(zone.resident_bytes, zone.bytes)})`]];
  if (piece.arena !== undefined) rows.push(["Arena", piece.arena]);
  if (zone.kind === "slab") {
    const block = Math.floor((address - zone.start) / zone.block_bytes);
    const cache = snapshot.caches.find((cache) => cache.number === zone.owner);
    const thread = cache?.thread === undefined ? "" : `, thread ${cache.thread}`;
    rows.push(["Block size", `${zone.block_bytes} B`], ["Blocks out", `${zone.out} of ${zone.capacity} (${share(zone.out, zone.capacity)})`],
      ["Free, listed", zone.listed], ["Free, no memory", zone.bare], ["Never made", zone.uncarved],
      ["Owner", zone.owner === undefined ? "unknown" : `cache ${zone.owner}${thread}`]);
    if (block < zone.capacity) rows.push(["Block here", `number ${block}, ${hex(zone.start + block * zone.block_bytes)}`]);
  }
  if (zone.free_ms !== undefined) rows.push([zone.kind === "slab" ? "Has had free blocks" : "Free for", duration(zone.free_ms)]);
  rows.push(["Address", hex(address)], ["Page", `${Math.floor((address - zone.start) / PAGE) + 1} of ${Math.ceil(zone.bytes / PAGE)}`]);
  return rows;
}

function select(step) {
  let { line, number } = view.at ?? { line: 0, number: -1 };
  number += step;
  while (lines[line] && (number < 0 || number >= lines[line].pieces.length)) {
    line += step;
    if (!lines[line]) return;
    number = step > 0 ? 0 : lines[line].pieces.length - 1;
  }
  if (!lines[line]) return;
  const piece = lines[line].pieces[number];
  const [x, y] = [(piece.start - lines[line].start - view.left) * scale(), line * pitch() - view.top];
  if (x < 0 || x > width()) view.left = piece.start - lines[line].start - LINE / view.zoom / 2;
  if (y < 0 || y + pitch() > canvas.clientHeight) view.top = line * pitch() - canvas.clientHeight / 2;
  show({ line, number, piece, address: piece.start });
}

// ---- Events ----

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.offsetX, y: event.offsetY };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointerup", () => { drag = null; });
canvas.addEventListener("pointermove", (event) => {
  if (drag) {
    view.left -= (event.offsetX - drag.x) / scale();
    view.top -= event.offsetY - drag.y;
    drag = { x: event.offsetX, y: event.offsetY };
  }
  const at = pieceAt(event.offsetX, event.offsetY);
  if (at) show(at);
  else draw();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
}, { passive: false });
canvas.addEventListener("dblclick", (event) => {
  const at = pieceAt(event.offsetX, event.offsetY);
  if (at) fit(at.line, at.piece);
});
const KEYS = {
  "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: () => zoomBy(1 / MOST),
  ArrowLeft: () => { view.left -= LINE / view.zoom / 8; draw(); },
  ArrowRight: () => { view.left += LINE / view.zoom / 8; draw(); },
  ArrowUp: () => { view.top -= pitch(); draw(); },
  ArrowDown: () => { view.top += pitch(); draw(); },
  "[": () => select(-1), "]": () => select(1),
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
element("in").addEventListener("click", () => zoomBy(2));
element("out").addEventListener("click", () => zoomBy(1 / 2));
element("whole").addEventListener("click", () => zoomBy(1 / MOST));
new ResizeObserver(draw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// ---- What stands around the map ----

function swatch(colour) {
  const mark = document.createElement("span");
  mark.className = "swatch";
  mark.style.background = colour;
  return mark;
}

function entry(tag, colour, words) {
  const made = document.createElement(tag);
  made.append(swatch(colour), words);
  return made;
}

function colourBy(name) {
  view.by = name;
  element("legend").replaceChildren(...LEGENDS[name].map(([words, colour]) => entry("span", css(colour), words)));
  draw();
}

for (const name of Object.keys(LEGENDS)) {
  const [label, input] = [document.createElement("label"), document.createElement("input")];
  Object.assign(input, { type: "radio", name: "by", value: name, checked: name === view.by });
  input.addEventListener("change", () => colourBy(name));
  label.append(input, name);
  element("colourings").append(label);
}

const { process } = snapshot;
element("summary").textContent = `${size(process.resident_bytes)} in memory, looked at ` +
  `${new Date(process.time_ms).toISOString().replace("T", " ").replace(/\..*/, "")} UTC, Terrace ${process.library}.`;
const whole = derived.accounts.reduce((sum, account) => sum + account.bytes, 0);
for (const { name, bytes, colour } of derived.accounts) {
  const bar = document.createElement("div");
  Object.assign(bar.style, { flex: `${bytes} 0 0`, background: colour });
  bar.title = `${name}: ${size(bytes)} (${share(bytes, whole)})`;
  element("ledger").append(bar);
  element("accounts").append(entry("li", colour, bar.title));
}

const COLUMNS = [["Block", "block_bytes", (value) => `${value} B`], ["Free memory", "free_bytes", size],
  ["Of the class", "free_share", (value) => share(value, 1)], ["Resident", "resident_bytes", size], ["Slabs", "slabs", count],
  ["Live blocks", "live", count], ["Listed", "listed", count], ["At hand", "in_magazines", count]];
const rows = derived.worst.map((row) => ({ ...row, free_share: row.free_bytes / Math.max(1, row.resident_bytes) }));

function fillTable() {
  document.querySelector("#classes tbody").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    line.setAttribute("aria-selected", String(view.only === row.block_bytes));
    line.addEventListener("click", () => {
      view.only = view.only === row.block_bytes ? null : row.block_bytes;
      fillTable();
      draw();
    });
    line.append(...COLUMNS.map(([, field, write]) => {
      const cell = document.createElement("td");
      cell.textContent = write(row[field]);
      return cell;
    }));
    return line;
  }));
}

const heads = document.createElement("tr");
for (const [name, field] of COLUMNS) {
  const [head, button] = [document.createElement("th"), document.createElement("button")];
  button.textContent = name;
  button.addEventListener("click", () => {
    const falling = rows.every((row, index) => index === 0 || rows[index - 1][field] >= row[field]);
    rows.sort((a, b) => (falling ? a[field] - b[field] : b[field] - a[field]));
    fillTable();
  });
  head.append(button);
  heads.append(head);
}
document.querySelector("#classes thead").append(heads);
fillTable();
colourBy(view.by);
