// Makes charts of the figures of a page, lets its slider move what depends on the epoch, and reads the
// page again while its run goes. Text enters the page as text only.
"use strict";
(() => {
const root = document.documentElement, all = (what, where = document) => [...where.querySelectorAll(what)];
const style = (element) => getComputedStyle(element);
const make = (name, parent, text = "") => {
  const made = parent.appendChild(document.createElement(name));
  made.textContent = text;
  return made;
};
const data = (element) => JSON.parse(element.querySelector(":scope > script").textContent);
const short = (v) => Math.abs(v) >= 1e6 || (v && Math.abs(v) < 1e-3) ? v.toPrecision(3) : String(Number(v.toPrecision(4)));
// Where round numbers stand on an axis of powers of ten, as in report/numbers.py.
const decades = (u, side, low, high) => {
  const places = [];
  for (let p = Math.floor(low); p <= Math.ceil(high); p++) places.push(...(high - low < 2 ? [1, 2, 5] : [1]).map((f) => p + Math.log10(f)));
  const inside = places.filter((p) => low <= p && p <= high);
  if (inside.length > 1) return inside;
  const from = 10 ** low, to = 10 ** high, raw = (to - from) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((size) => size >= raw * 0.999), first = Math.ceil(from / step - 1e-9);
  return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, i) => Math.log10((first + i) * step));
};
const charts = [];
root.classList.add("js");

// A choice between options, labelled, in front of the figures that it changes.
function choice(parent, label, options, change, before = null) {
  let place = parent.querySelector(":scope > .chosen");
  if (!place) {
    place = document.createElement("div");
    place.className = "chosen";
    parent.insertBefore(place, before);
  }
  const select = make("select", make("label", place, label + " "));
  select.id = "choice" + all("select").length;
  options.forEach((name, i) => (make("option", select, name).value = i));
  select.addEventListener("change", () => change(Number(select.value)));
  return select;
}

// One figure: its data, its chart, its legend.
class Chart {
  constructor(figure) {
    this.figure = figure;
    this.data = data(figure);
    this.picture = figure.querySelector(".static");
    this.output = figure.querySelector("figcaption output");
    this.buttons = all(":scope > .legend button", figure);
    this.last = this.buttons.map((button) => button.querySelector("b").textContent);
    this.holder = document.createElement("div");
    this.holder.setAttribute("role", "img");
    this.holder.setAttribute("aria-label", this.picture.getAttribute("aria-label"));
    figure.insertBefore(this.holder, this.picture);
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => this.toggle(i));
    });
    charts.push(this);
    new ResizeObserver(() => requestAnimationFrame(() => this.fit())).observe(figure);
  }
  fit() {
    const width = Math.min(this.figure.clientWidth, 620);
    if (!width) return;
    if (!this.plot) this.draw();
    else if (width !== this.plot.width) this.plot.setSize({ width, height: this.plot.height });
  }
  // Values as uPlot wants them: one list from left to right, and one per curve, null where it has none.
  table() {
    const { series, dots } = this.data;
    if (dots) {
      const order = series.flatMap((s, i) => s.x.map((x, k) => [x, i, k])).sort((a, b) => a[0] - b[0]);
      this.order = order;
      return [order.map((o) => o[0]), ...series.map((s, i) => order.map(([, j, k]) => (i === j ? s.y[k] : null)))];
    }
    const xs = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
    return [xs, ...series.map((s) => { const at = new Map(s.x.map((x, i) => [x, s.y[i]])); return xs.map((x) => at.get(x) ?? null); })];
  }
  draw() {
    const { x, series, dots, powers, labels = {} } = this.data, page = style(root);
    const soft = page.getPropertyValue("--soft"), line = page.getPropertyValue("--line");
    const marks = this.buttons.map((button) => style(button.querySelector(".line, .glyph")));
    const pens = series.map((_, i) => marks[i] || style(this.picture.querySelector(".line, .glyph")));
    const axis = { stroke: soft, font: "11px system-ui, sans-serif", ticks: { show: false } };
    const named = (side) => labels[side] && ((u, splits) => splits.map((v) => labels[side][v]?.slice(0, side === "x" ? u.width / 8 / labels.x.length : 8) ?? ""));
    const hidden = this.buttons.map((button) => button.getAttribute("aria-pressed") === "false");
    this.colors = pens.map((pen) => (dots ? pen.fill : pen.stroke));
    this.glyphs = this.buttons.map((button) => button.querySelector(".glyph")?.textContent);
    if (this.plot) this.plot.destroy();
    this.plot = new uPlot({
      width: Math.min(this.figure.clientWidth, 620), height: 200, legend: { show: false },
      cursor: { y: false, drag: { x: true, y: true, uni: 30, setScale: false }, points: { size: 7, show: dots ? false : undefined },
        sync: x === "epoch" && !dots ? { key: "epoch", setSeries: false } : undefined },
      scales: { x: { time: false, range: this.within(0) }, y: { range: this.within(2) } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, splits: powers && decades, values: powers ? (u, splits) => splits.map((v) => short(10 ** v)) : named("x"), incrs: x === "epoch" ? [1, 2, 5, 10, 20, 25, 50, 100, 200, 500] : undefined },
        { ...axis, grid: { stroke: line, width: 1 }, size: 54, values: named("y") ?? ((u, splits) => splits.map(short)) },
      ],
      series: [{}, ...series.map((s, i) => ({
        label: s.name, show: !hidden[i], stroke: this.colors[i], width: 1.8, spanGaps: true,
        dash: (pens[i].strokeDasharray.match(/[\d.]+/g) ?? []).map(Number),
        ...(dots ? { paths: () => null, points: { show: false } } : { points: { show: s.x.length < 3 } }),
      }))],
      hooks: { setSelect: [(u) => this.enlarge(u)], setCursor: [(u) => (dots ? this.tellDot(u) : this.tellEpoch(u))], draw: dots ? [(u) => this.drawDots(u)] : [] },
    }, this.table(), this.holder);
    this.plot.over.addEventListener("dblclick", () => {
      const alike = charts.filter((c) => c === this || (x === "epoch" && !dots && c.data.x === "epoch" && !c.data.dots));
      alike.filter((c) => c.plot).forEach((c) => { c.zoom = null; c.scale(c.plot); });
    });
    this.plot.over.addEventListener("mouseleave", () => charts.forEach((chart) => chart.point(at)));
    at && this.point(at);
  }
  // What the reader has drawn around with the mouse, until a double click.
  within(first) {
    return () => (this.zoom ?? this.data.range).slice(first, first + 2);
  }
  enlarge(u) {
    const { left, top, width, height } = u.select, [, , low, high] = this.zoom ?? this.data.range;
    if (!width && !height) return;
    const across = width ? [u.posToVal(left, "x"), u.posToVal(left + width, "x")] : this.within(0)();
    const up = height && height < u.over.clientHeight ? [u.posToVal(top + height, "y"), u.posToVal(top, "y")] : [low, high];
    this.zoom = [...across, ...up];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.scale(u);
  }
  scale(u) {
    const [x, y] = [this.within(0)(), this.within(2)()];
    u.batch(() => { u.setScale("x", { min: x[0], max: x[1] }); u.setScale("y", { min: y[0], max: y[1] }); });
  }
  tell(values, head) {
    this.output.textContent = head;
    this.buttons.forEach((b, i) => { if (i < this.data.series.length) b.querySelector("b").textContent = values ? values[i] : this.last[i]; });
  }
  tellEpoch(u) {
    const i = u.cursor.idx;
    if (i == null) return this.tell(null, "");
    this.tell(u.data.slice(1).map((curve) => (curve[i] == null ? "" : short(curve[i]))), `${this.data.x} ${short(u.data[0][i])}`);
  }
  near(u) {
    let best = null, least = 26;
    const { series } = this.data;
    this.order.forEach(([x, s, k]) => {
      const far = Math.hypot(u.valToPos(x, "x") - u.cursor.left, u.valToPos(series[s].y[k], "y") - u.cursor.top);
      if (u.series[s + 1].show && far < least) [best, least] = [[s, k], far];
    });
    return best;
  }
  tellDot(u) {
    const found = u.cursor.left >= 0 ? this.near(u) : null, one = found && this.data.series[found[0]];
    const place = found && `${short(one.x[found[1]])}, ${short(one.y[found[1]])}`;
    this.output.textContent = found ? `${one.name}: ${one.told?.[found[1]] ?? place}` : "";
    const shown = this.figure.parentNode.querySelector(":scope > .pointed");
    const cells = found && all(":scope > template", this.figure.parentNode);
    const chosen = cells && cells.find((t) => t.dataset.dot === `${found[0]}-${found[1]}`);
    if (shown && chosen) shown.replaceChildren(chosen.content.cloneNode(true));
  }
  drawDots(u) {
    const { ctx } = u, size = devicePixelRatio, { series, front } = this.data;
    const to = (x, y) => [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left - 6 * size, u.bbox.top - 6 * size, u.bbox.width + 12 * size, u.bbox.height + 12 * size);
    ctx.clip();
    if (front.length) {
      ctx.strokeStyle = style(root).getPropertyValue("--soft");
      ctx.beginPath();
      front.forEach(([x, y], i) => (i ? (ctx.lineTo(to(x, front[i - 1][1])[0], to(x, front[i - 1][1])[1]), ctx.lineTo(...to(x, y))) : ctx.moveTo(...to(x, y))));
      ctx.stroke();
    }
    ctx.font = `${14 * size}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    series.forEach((s, i) => {
      ctx.fillStyle = this.colors[i];
      if (u.series[i + 1].show) s.x.forEach((x, k) => ctx.fillText(this.glyphs[i] ?? "\u25cf", ...to(x, s.y[k])));
    });
    ctx.restore();
  }
  toggle(i, shown = this.buttons[i].getAttribute("aria-pressed") === "false", alone = false) {
    this.buttons[i].setAttribute("aria-pressed", String(shown));
    this.plot?.setSeries(i + 1, { show: shown });
    const others = !alone && this.figure.closest(".together");
    if (others) charts.filter((c) => c !== this && others.contains(c.figure)).forEach((c) => {
      const same = c.data.series.findIndex((s) => s.name === this.data.series[i].name);
      if (same >= 0) c.toggle(same, shown, true);
    });
  }
  point(epoch) {
    if (this.plot && this.data.x === "epoch" && !this.data.dots)
      this.plot.setCursor(epoch === null ? { left: -10, top: -10 } : { left: this.plot.valToPos(epoch, "x"), top: 4 }, true, false);
  }
  replace(series, title, labels) {
    Object.assign(this.data, { series, labels });
    this.zoom = null;
    if (title) this.figure.querySelector("figcaption").firstChild.textContent = title + " ";
    this.last = this.last.map((_, i) => series[i]?.y.length && !this.data.dots ? short(series[i].y.at(-1)) : "");
    if (this.plot) this.draw();
    this.tell(null, "");
    at && this.point(at);
  }
}

// The slider: cells, leads, heat maps and cursors of one epoch.
const slider = document.getElementById("epoch");
const kinds = all(".kind").map((element) => ({ element, data: data(element) }));
let at = null;
all(".chart").forEach((figure) => new Chart(figure));

function show(kind, i) {
  const { element, data: d } = kind, row = d.values[i];
  const cut = d.cuts.filter(([first]) => first <= i).at(-1)?.[1] ?? {};
  all(".edge", element).forEach((g) => {
    const found = cut[g.dataset.edge], text = g.querySelector(".op"), name = g.dataset.edge;
    g.setAttribute("class", `edge ${found ? found[1] : "cut"}`);
    text.textContent = found ? found[0] : "";
    g.querySelector("title").textContent = `${name.replace("->", " to ")}: ${found ? found[0] : "not taken"}`;
  });
  all(".wire", element).forEach((wire) => {
    const best = Math.max(...(row[d.edges.indexOf(wire.dataset.edge)] ?? [0])) * d.unit;
    wire.style.strokeWidth = 1 + 6 * best;
    wire.setAttribute("class", cut[wire.dataset.edge] ? "wire" : "wire cut");
  });
  const rows = all(".heat tbody tr", element);
  row.forEach((counts, e) => {
    const there = counts.filter((n) => n >= 0), equal = there.reduce((a, b) => a + b, 0) / there.length;
    counts.forEach((n, k) => {
      const shade = rows[e]?.children[k + 1]?.firstElementChild, share = d.reach ? ((n - equal) * d.unit) / d.reach : 0;
      if (!shade) return;
      shade.textContent = (100 * n * d.unit).toFixed(2);
      shade.className = `shade ${share < 0 ? "under" : "over"}${n === Math.max(...there) ? " best" : ""}`;
      shade.style.setProperty("--share", Math.abs(share).toFixed(2));
    });
  });
}
function move() {
  const epochs = data(slider.parentNode), i = Number(slider.value);
  slider.parentNode.querySelector("output").textContent = epochs[i];
  slider.setAttribute("aria-valuetext", `epoch ${epochs[i]}`);
  at = i === epochs.length - 1 ? null : epochs[i];
  kinds.forEach((kind) => show(kind, Math.max(kind.data.epochs.findLastIndex((e) => e <= epochs[i]), 0)));
  charts.forEach((chart) => chart.point(at));
}
slider?.addEventListener("input", move);

// The curves of an edge that the reader chooses.
kinds.forEach(({ element, data: d }) => {
  const chart = charts.find((c) => c.figure.parentNode === element && c.figure.dataset.edge);
  if (!chart || d.edges.length < 2) return;
  const title = chart.figure.querySelector("figcaption").firstChild.textContent.trim();
  const select = choice(element, "edge", d.names, (e) => {
    const series = chart.data.series.map((s, k) => {
      const known = d.epochs.map((epoch, i) => [epoch, d.values[i][e]]).filter(([, row]) => row[k] >= 0);
      const equal = (row) => row.filter((n) => n >= 0).reduce((a, b) => a + b, 0) / row.filter((n) => n >= 0).length;
      return { name: s.name, x: known.map(([epoch]) => epoch), y: known.map(([, row]) => 100 * d.unit * (row[k] - equal(row))) };
    });
    chart.replace(series, d.names[e] + title.slice(title.indexOf(":")));
  }, chart.figure);
  select.value = d.edges.indexOf(chart.figure.dataset.edge);
});

// Figures of which one is shown, and the axes of a figure between which the reader chooses.
all("[data-choose]").forEach((place) => {
  const figures = all(":scope > figure", place);
  const pick = (i) => figures.forEach((figure, k) => (figure.hidden = k !== i));
  if (figures.length > 1) choice(place, place.dataset.choose, figures.map((f) => f.querySelector("figcaption").firstChild.textContent.trim()), pick, figures[0]);
  pick(0);
});
charts.filter((c) => c.data.columns).forEach((chart) => {
  const { columns, series } = chart.data, names = Object.keys(columns), all = series.map((s) => ({ ...s }));
  const axis = (name) => {
    const known = columns[name].filter((v) => v !== null), words = [...new Set(known)];
    if (known.every((v) => typeof v === "number")) return { values: columns[name] };
    return { words, values: columns[name].map((v) => (v === null ? null : words.indexOf(v))) };
  };
  const span = (v) => { const low = Math.min(...v), high = Math.max(...v), room = 0.06 * (high - low) || 0.5; return v.length ? [low - room, high + room] : [0, 1]; };
  const change = () => {
    const [x, y] = selects.map((select) => axis(names[select.value]));
    let before = 0;
    const shown = all.map((s) => {
      const places = s.x.map((_, k) => before + k), kept = places.map((p) => x.values[p] !== null && y.values[p] !== null);
      before += s.x.length;
      const pick = (values) => values.filter((_, k) => kept[k]);
      return { name: s.name, x: pick(places.map((p) => x.values[p])), y: pick(places.map((p) => y.values[p])), told: pick(s.told) };
    });
    chart.data.range = [...span(shown.flatMap((s) => s.x)), ...span(shown.flatMap((s) => s.y))];
    chart.data.x = names[selects[0].value];
    chart.replace(shown, `${names[selects[1].value]} against ${chart.data.x}`, { x: x.words, y: y.words });
  };
  const selects = ["across", "upwards"].map((label) => choice(chart.figure, label, names, change, chart.holder));
  [chart.data.x, chart.figure.dataset.upwards].forEach((name, i) => (selects[i].value = names.indexOf(name)));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((c) => c.plot && c.draw()));

// While the run goes: read the page again, and put the reader back where they were.
const key = "darts_gdas " + location.pathname, every = Number(document.body.dataset.refresh), paused = document.getElementById("pause");
const fields = () => all("input, select").filter((f) => f.id);
const folds = () => all("details");
addEventListener("pagehide", () => {
  const values = Object.fromEntries(fields().map((f) => [f.id, f.type === "checkbox" ? f.checked : f.value]));
  if (slider && slider.value === slider.max) delete values.epoch; // follows the newest
  try { sessionStorage.setItem(key, JSON.stringify({ values, top: scrollY, open: folds().map((f) => f.open) })); } catch { /* no storage: the reader starts anew */ }
});
if (every) {
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem(key)); } catch { /* as above */ }
  if (kept) {
    fields().filter((f) => f.id in kept.values).forEach((f) => {
      if (f.type === "checkbox") f.checked = kept.values[f.id];
      else f.value = kept.values[f.id];
      f.dispatchEvent(new Event(f.type === "range" ? "input" : "change"));
    });
    folds().forEach((f, i) => (f.open = kept.open[i] ?? f.open));
    requestAnimationFrame(() => scrollTo(0, kept.top));
  }
  setInterval(() => paused?.checked || document.hidden || location.reload(), 1000 * every);
}
})();
