"use strict";
// State of the page lives in the address: #protocol=official&metric=...&system=...&other=...&sort=...
const data = JSON.parse(document.getElementById("document").textContent);
const metrics = new Map(data.metrics.map((metric) => [`${metric.protocol}/${metric.name}`, metric]));
const items = data.items.map((item) => ({ ...item, name: `${item.clip}/bokeh${item.target}` }));
const COLORS = ["#f0b23c", "#58b7ff", "#ff7d7d", "#7ddc87", "#c79bff", "#ff9ed2", "#8be0da", "#d3cf6c", "#b8b8b8", "#e08f4f"];
const color = (system) => COLORS[data.systems.findIndex((s) => s.name === system) % COLORS.length];
const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const node = tag === "svg" || SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.setAttribute("class", value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const SVG = new Set(["line", "circle", "polyline", "text", "g", "title"]);

const cellIndex = new Map(data.cells.map((c) => [`${c.system}\n${c.metric}\n${c.group}\n${c.value_of_group}`, c]));
const cell = (system, metric, group = "all", value = "") => cellIndex.get(`${system}\n${metric}\n${group}\n${value}`);
const text = (value, metric) => value.toFixed(metric.digits);
const heading = (metric) => `${metric.label}${metric.unit ? ` (${metric.unit})` : ""} ${metric.best === "high" ? "↑" : "↓"}`;
const missing = new Map(data.missing.map((gone) => [gone.metric, gone.reason]));

// --- State ---------------------------------------------------------------------------------------

const PROTOCOLS = ["official", "corrected"];
function first(wanted, options) { return options.includes(wanted) ? wanted : options[0]; }
const state = { protocol: "corrected", metric: "corrected/psnr", system: "", other: "", sort: "", corruption: "" };

function readState() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in state) state[name] = value;
  state.protocol = first(state.protocol, PROTOCOLS.filter((p) => data.metrics.some((m) => m.protocol === p)));
  state.metric = first(state.metric, plottable());
  const names = data.systems.map((s) => s.name);
  state.system = first(state.system, names);
  if (!names.includes(state.other) || state.other === state.system) state.other = names.find((n) => n !== state.system) ?? "";
  state.corruption = first(state.corruption, [...new Set(data.robustness.map((p) => p.corruption))]) ?? "";
}
function change(update) {
  Object.assign(state, update);
  const given = Object.entries(state).filter(([, value]) => value);
  history.replaceState(null, "", `#${new URLSearchParams(given)}`);
  draw();
}
// Metrics with a value for any system.
function plottable() { return [...metrics.keys()].filter((id) => metrics.get(id).kind !== "system" && data.systems.some((s) => cell(s.name, id))); }

// --- Tables ----------------------------------------------------------------------------------------

function bestText(metric, values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length < 2) return null;
  return text(metric.best === "high" ? Math.max(...known) : Math.min(...known), metric);
}
function valueCell(found, metric, best) {
  if (!found) return element("td", {}, "–");
  const shown = text(found.value, metric);
  const interval = found.low === null ? null : element("small", {}, `${text(found.low, metric)} – ${text(found.high, metric)}`);
  return element("td", { class: shown === best ? "best" : "", title: `${found.num_items} videos of ${found.num_clips} clips` }, shown, interval);
}

function drawScores() {
  const columns = data.metrics.filter((m) => m.protocol === state.protocol);
  const rank = (m) => { const at = data.columns.indexOf(m.column); return at < 0 ? data.columns.length : at; };
  columns.sort((a, b) => rank(a) - rank(b));
  const ids = columns.map((m) => `${m.protocol}/${m.name}`);
  const [sortId, direction] = state.sort.split(" ");
  const rows = data.systems.map((system) => ({ system, cells: ids.map((id) => cell(system.name, id)) }));
  if (ids.includes(sortId)) {
    const at = ids.indexOf(sortId);
    const worst = direction === "ascending" ? Infinity : -Infinity;
    rows.sort((a, b) => ((a.cells[at]?.value ?? worst) - (b.cells[at]?.value ?? worst)) * (direction === "ascending" ? 1 : -1));
  }
  const head = element("tr", {}, element("th", { scope: "col" }, "System"), ...columns.map((metric, at) => {
    const natural = metric.best === "high" ? "descending" : "ascending";
    const now = ids[at] === sortId ? direction : "none";
    const next = now === natural ? (natural === "ascending" ? "descending" : "ascending") : natural;
    const button = element("button", { type: "button", title: metric.summary, onclick: () => change({ sort: `${ids[at]} ${next}` }) }, heading(metric));
    return element("th", { scope: "col", "aria-sort": now }, button);
  }));
  const best = columns.map((metric, at) => bestText(metric, rows.map((row) => row.cells[at]?.value)));
  const body = [];
  const shown = new Set();
  const publishedRow = (name) => element("tr", { class: "published" }, element("th", { scope: "row" }, `${name}, published`), ...columns.map((metric) => {
    const value = data.published.rows[name][metric.column];
    return element("td", {}, value === undefined ? "–" : String(value));
  }));
  for (const row of rows) {
    body.push(element("tr", {}, element("th", { scope: "row", title: row.system.summary }, row.system.name), ...columns.map((metric, at) =>
      missing.has(ids[at]) ? element("td", { class: "missing", title: missing.get(ids[at]) }, "missing") : valueCell(row.cells[at], metric, best[at]))));
    const name = row.system.published;
    if (state.protocol === "official" && name && !shown.has(name)) { shown.add(name); body.push(publishedRow(name)); }
  }
  if (state.protocol === "official") for (const name of Object.keys(data.published.rows)) if (!shown.has(name)) body.push(publishedRow(name));
  $("scores").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  $("protocol-note").textContent = state.protocol === "official"
    ? `official: the choices of the paper's evaluation, quirks included. In italics what is published (${data.published.source}), of other videos.`
    : "corrected: what the names of the metrics promise. Not comparable with published numbers.";
  const notes = data.missing.filter((gone) => gone.metric.startsWith(`${state.protocol}/`)).map((gone) => `${gone.metric}: ${gone.reason}`);
  $("table-notes").replaceChildren(element("li", {}, "Small: 95 % intervals by bootstrap over clips. Bold: best of its column here."), ...notes.map((note) => element("li", {}, `Missing: ${note}`)));
  $("protocols").replaceChildren(...PROTOCOLS.map((name) => element("button", { type: "button", "aria-pressed": String(name === state.protocol), onclick: () => change({ protocol: name, sort: "" }) }, name)));
}

function drawGroup(id, group) {
  const metric = metrics.get(state.metric);
  const values = [...new Set(data.cells.filter((c) => c.group === group && c.metric === state.metric).map((c) => c.value_of_group))];
  const head = element("tr", {}, element("th", { scope: "col" }, ""), ...data.systems.map((s) => element("th", { scope: "col" }, s.name)));
  const rows = values.map((value) => {
    const cells = data.systems.map((s) => cell(s.name, state.metric, group, value));
    const best = bestText(metric, cells.map((c) => c?.value));
    return element("tr", {}, element("th", { scope: "row" }, value), ...cells.map((c) => valueCell(c, metric, best)));
  });
  $(id).replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  return values.length;
}

// --- Plots -----------------------------------------------------------------------------------------

const WIDTH = 560, HEIGHT = 300, LEFT = 58, RIGHT = 14, TOP = 14, BOTTOM = 36;

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(Number(at.toPrecision(10)));
  return found;
}
function plot(svg, series, { log, label }) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const points = series.flatMap((s) => [...s.dots, ...s.line]);
  if (!points.length) { svg.replaceChildren(element("text", { x: 20, y: 40 }, "Nothing to show for this metric.")); return; }
  const xs = points.map((p) => p.x), ys = points.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]);
  const pad = (Math.max(...ys) - Math.min(...ys) || 1) * 0.06;
  const [y0, y1] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const scale = log ? (x) => Math.log2(Math.max(x, 0.5)) : (x) => x;
  const margin = (scale(Math.max(...xs)) - scale(Math.min(...xs)) || 1) * 0.05;
  const [x0, x1] = [scale(Math.min(...xs)) - margin, scale(Math.max(...xs)) + margin];
  const px = (x) => LEFT + ((scale(x) - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const parts = [];
  for (const y of ticks(y0, y1, 5)) {
    parts.push(element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y) }));
    parts.push(element("text", { x: LEFT - 8, y: py(y) + 4, "text-anchor": "end" }, String(y)));
  }
  const marks = log ? [1, 2, 4, 8, 16, 32, 64, 128].filter((x) => scale(x) >= x0 && scale(x) <= x1) : [...new Set(xs)].sort((a, b) => a - b);
  for (const x of marks) parts.push(element("text", { x: px(x), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, String(x)));
  parts.push(element("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
  parts.push(element("text", { x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, label));
  series.forEach((one, number) => {
    const paint = color(one.system);
    const shift = log ? 0 : (number - (series.length - 1) / 2) * 2;
    for (const dot of one.dots) {
      parts.push(element("circle", { cx: px(dot.x) + (number - (series.length - 1) / 2) * 2.4, cy: py(dot.y), r: 2.2, fill: paint, opacity: 0.45 }, element("title", {}, `${one.system}, ${dot.name}: ${dot.y.toFixed(3)}`)));
    }
    for (const point of one.line) if (point.low !== null && point.low !== undefined) parts.push(element("line", { x1: px(point.x) + shift, x2: px(point.x) + shift, y1: py(point.low), y2: py(point.high), stroke: paint, opacity: 0.6 }));
    if (one.line.length > 1) parts.push(element("polyline", { points: one.line.map((p) => `${px(p.x) + shift},${py(p.y)}`).join(" "), fill: "none", stroke: paint, "stroke-width": 2 }));
    for (const point of one.line) parts.push(element("circle", { cx: px(point.x) + shift, cy: py(point.y), r: 3.5, fill: paint }, element("title", {}, `${one.system}: ${point.y.toFixed(3)}`)));
  });
  svg.replaceChildren(...parts);
}

function drawPlots() {
  const metric = metrics.get(state.metric);
  const byK = data.systems.map((system) => {
    const values = data.scores[system.name]?.[state.metric] ?? [];
    const dots = [], sums = new Map();
    values.forEach((value, at) => {
      if (value === null) return;
      const k = items[at].k_at_1024;
      dots.push({ x: k, y: value, name: items[at].name });
      const sum = sums.get(k) ?? [0, 0];
      sums.set(k, [sum[0] + value, sum[1] + 1]);
    });
    const line = [...sums].sort((a, b) => a[0] - b[0]).map(([k, [sum, count]]) => ({ x: k, y: sum / count }));
    return { system: system.name, dots, line };
  });
  plot($("plot-k"), byK, { log: true, label: "K at 1024 px" });
  const points = data.robustness.filter((p) => p.metric === state.metric && p.corruption === state.corruption);
  $("robustness-figure").hidden = data.robustness.length === 0;
  const byLevel = data.systems.map((system) => ({ system: system.name, dots: [], line: points.filter((p) => p.system === system.name).sort((a, b) => a.level - b.level).map((p) => ({ x: p.level, y: p.value, low: p.low, high: p.high })) }));
  plot($("plot-level"), byLevel, { log: false, label: `level of corruption (${state.corruption})` });
  $("legend").replaceChildren(...data.systems.map((system) => { const dot = element("i"); dot.style.background = color(system.name); return element("li", {}, dot, system.name); }));
  $("metric-summary").textContent = `${metric.protocol}: ${metric.summary}`;
}

// --- Worst -----------------------------------------------------------------------------------------

let playing = false;
function picture(source, caption, videoSource) {
  const label = element("figcaption", {}, caption);
  if (!source) return element("figure", {}, element("p", { class: "muted" }, "not kept"), label);
  const shown = playing && videoSource
    ? element("video", { src: videoSource, loop: true, autoplay: true, playsinline: true, muted: true })
    : element("img", { src: source, alt: caption, loading: "lazy" });
  if (shown.tagName === "VIDEO") { shown.muted = true; }
  return element("figure", {}, shown, label);
}
function drawWorst() {
  const metric = metrics.get(state.metric), at = metric.kind === "video" ? state.metric : "corrected/psnr";
  const by = metrics.get(at) ?? metric;
  const values = data.scores[state.system]?.[at] ?? [];
  const ranked = values.map((value, number) => ({ value, item: items[number] })).filter((x) => x.value !== null);
  ranked.sort((a, b) => (by.best === "high" ? a.value - b.value : b.value - a.value));
  const kept = ranked.filter(({ item }) => data.media[item.name]?.[state.system]).slice(0, 6);
  $("worst-note").textContent = `By ${heading(by)}, ${by.protocol}; errors four times brighter.` + (data.left_out ? ` Of ${data.left_out} videos there was no room for pictures.` : "");
  $("worst").replaceChildren(...kept.map(({ value, item }) => {
    const media = data.media[item.name], other = state.other ? data.media[item.name][state.other] : null;
    const otherValue = data.scores[state.other]?.[at]?.[items.findIndex((i) => i.name === item.name)];
    const facts = [`K ${item.k_at_1024.toFixed(0)}${item.k_varies ? " (ramp)" : ""}`, `d_f ${item.focus_disparity.toFixed(2)}${item.focus_varies ? " (pull)" : ""}`];
    if (item.stratum) facts.push(item.stratum);
    return element("div", { class: "item" },
      element("h3", {}, `${item.name} `, element("span", {}, facts.join(" · "))),
      element("div", { class: "pictures" },
        picture(media.aif?.image, "all in focus", media.aif?.video),
        picture(media.truth?.image, "truth", media.truth?.video),
        picture(media[state.system].image, `${state.system}: ${text(value, by)}`, media[state.system].video),
        picture(media[state.system].error, `error of ${state.system}`),
        other ? picture(other.image, `${state.other}${otherValue === null || otherValue === undefined ? "" : `: ${text(otherValue, by)}`}`, other.video) : null,
        other ? picture(other.error, `error of ${state.other}`) : null));
  }));
  if (!kept.length) $("worst").replaceChildren(element("p", { class: "muted" }, "No pictures were kept."));
  $("play").hidden = !kept.length;
  $("play").textContent = playing ? "Show middle frames" : "Play videos";
}

// --- Rest ------------------------------------------------------------------------------------------

function drawProblems() {
  const lists = [];
  const list = (title, lines) => { if (lines.length) lists.push(element("details", { open: lines.length <= 12 }, element("summary", {}, `${title} (${lines.length})`), element("ul", {}, ...lines.map((line) => element("li", {}, line))))); };
  list("Videos that were not made", data.failures.map((f) => `${f.system}, ${f.item}: ${f.reason}`));
  list("Metrics that are missing", data.missing.map((gone) => `${gone.metric}: ${gone.reason}`));
  list("Scores above the noise floor of their truth, which cannot tell them apart any more", data.above_floor.map((a) => `${a.system}, ${a.item}: ${a.psnr_db.toFixed(1)} dB, floor ${a.noise_floor_db.toFixed(1)} dB`));
  $("problem-lists").replaceChildren(...lists);
  $("problems").hidden = !lists.length;
}
function options(select, names, chosen, label = (name) => name) {
  select.replaceChildren(...names.map((name) => element("option", { value: name, selected: name === chosen }, label(name))));
}
function draw() {
  drawScores();
  drawPlots();
  drawGroup("by-k", "k");
  $("strata").hidden = drawGroup("by-stratum", "stratum") === 0;
  drawWorst();
  options($("metric"), plottable(), state.metric, (id) => `${metrics.get(id).label} · ${metrics.get(id).protocol}`);
  options($("system"), data.systems.map((s) => s.name), state.system);
  options($("other"), data.systems.map((s) => s.name).filter((n) => n !== state.system), state.other);
  options($("corruption"), [...new Set(data.robustness.map((p) => p.corruption))], state.corruption);
}
function start() {
  $("title").textContent = data.title;
  const clips = new Set(items.map((item) => item.clip)).size;
  const count = (number, what) => element("li", {}, element("b", {}, String(number)), ` ${what}`);
  const floors = items.map((item) => item.noise_floor_db).filter((x) => x !== null).sort((a, b) => a - b);
  $("counts").replaceChildren(count(items.length, "videos"), count(clips, "clips"), count(data.systems.length, "systems"),
    floors.length ? element("li", {}, "noise floor of the truth ", element("b", {}, `${floors[0].toFixed(1)} – ${floors[floors.length - 1].toFixed(1)} dB`)) : null);
  const failed = data.failures.length ? `${data.failures.length} videos were not made. ` : "";
  $("alerts").textContent = failed + (data.above_floor.length ? `${data.above_floor.length} scores are above the noise floor of their truth.` : "");
  $("facts").replaceChildren(...Object.entries(data.facts).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  $("metric").addEventListener("change", (event) => change({ metric: event.target.value }));
  $("system").addEventListener("change", (event) => { state.system = event.target.value; readOther(); change({}); });
  $("other").addEventListener("change", (event) => change({ other: event.target.value }));
  $("corruption").addEventListener("change", (event) => change({ corruption: event.target.value }));
  $("play").addEventListener("click", () => { playing = !playing; drawWorst(); });
  addEventListener("hashchange", () => { readState(); draw(); });
  drawProblems();
  readState();
  draw();
}
function readOther() { if (state.other === state.system) state.other = data.systems.map((s) => s.name).find((n) => n !== state.system) ?? ""; }
start();
