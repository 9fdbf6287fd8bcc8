// Charts of what a job measured, each drawn anew for the width that it has, on paper as well.

const PAPER = 660;
const NARROWEST = 240;
const redrawers = new Set();
const CHOSEN = "var(--accent)";

// draw(width) gives an SVG, or null where there is nothing to draw.
function chart(caption, draw, heading) {
  const place = element("div", { class: "plot" });
  const figure = element("figure", {}, heading ? element("h3", {}, heading) : null, place, element("figcaption", {}, caption));
  let last = 0;
  const redraw = (width) => {
    if (width < 1 || width === last) return;
    last = width;
    place.replaceChildren(draw(Math.max(width, NARROWEST)) ?? "");
  };
  redrawers.add(redraw);
  new ResizeObserver(() => redraw(Math.floor(place.clientWidth))).observe(place);
  figure.again = () => { last = 0; redraw(Math.floor(place.clientWidth)); };
  return figure;
}

addEventListener("beforeprint", () => redrawers.forEach((redraw) => redraw(PAPER)));

const plot = (options) => Plot.plot({
  marginLeft: 56, marginBottom: 44, style: { background: "transparent", fontSize: "12px", fontFamily: "inherit", overflow: "visible" }, ...options,
});

// A name that fits beside an axis; its end says more than its beginning.
const shortened = (name, room) => (name.length > room ? `…${name.slice(name.length - room + 1)}` : name);
const beside = (names, width) => {
  const room = Math.max(10, Math.floor(width * 0.4 / 6.6));
  return { room, margin: 16 + 6.6 * Math.min(room, d3.max(names, (name) => name.length) ?? 0) };
};

// What the rounds of changes brought the outputs, and what they cost: each point is a whole model that could run.
function roundsChart(steps, aim) {
  const points = [{ us: 0, db: steps[0].before_sqnr_db, round: "as requested" }];
  for (const [round, made] of d3.group(steps, (step) => step.round)) {
    const kept = made.filter((step) => step.kept);
    if (!kept.length) continue;
    const us = points.at(-1).us + d3.sum(kept, (step) => step.added_us);
    points.push({ us, db: kept.at(-1).output_sqnr_db, round: `round ${round}` });
  }
  const known = points.filter((point) => isNumber(point.db));
  const said = (some, options) => Plot.text(some, { x: "us", y: "db", text: (point) => `${point.round}: ${decibels(point.db)}`, dy: -12, fill: "currentColor", ...options });
  return chart("The worst output on the calibration batches, and the time that the changes add by estimate, after each round. Dashed: the aim.", (width) => plot({
    width, height: 260, marginRight: 70, marginTop: 28, ariaLabel: "Error of the worst output against added time, by round",
    x: { label: "added time, µs (estimate)", grid: true, nice: true }, y: { label: "worst output, dB", grid: true, nice: true },
    marks: [
      aim > 0 ? Plot.ruleY([aim], { stroke: "currentColor", strokeDasharray: "4 3" }) : null,
      Plot.line(known, { x: "us", y: "db", stroke: CHOSEN }),
      Plot.dot(known, { x: "us", y: "db", fill: CHOSEN, r: 4 }),
      said(known.slice(0, 1), { textAnchor: "start", dx: 10, dy: 0 }),
      said(known.slice(1)),
    ],
  }));
}

// Layers that run in another way than requested, alone: from the way requested to the one that runs.
function beforeAfterChart(changed) {
  const names = changed.map((layer) => layer.name);
  return chart("Linears that run in another way than requested, alone: from what was requested (ring) to what runs (dot).", (width) => {
    const { room, margin } = beside(names, width);
    return plot({
      width, height: 60 + 20 * changed.length, marginLeft: margin, ariaLabel: "SQNR of changed layers before and after",
      x: { label: "SQNR alone, dB", grid: true, nice: true }, y: { label: null, domain: names, tickFormat: (name) => shortened(name, room), tickSize: 0 },
      marks: [
        Plot.link(changed, { x1: "before_db", x2: "alone_db", y1: "name", y2: "name", stroke: CHOSEN, strokeWidth: 2 }),
        Plot.dot(changed, { x: "before_db", y: "name", stroke: CHOSEN, fill: "var(--paper)", r: 4 }),
        Plot.dot(changed, { x: "alone_db", y: "name", fill: CHOSEN, r: 4,
          channels: { layer: "name", requested: "requested", runs: "effective" }, tip: true }),
      ],
    });
  });
}

// Those that no other is both better and cheaper than, by rising cost.
function paretoFront(points) {
  let best = -Infinity;
  return d3.sort(points.filter((point) => point.legal), (a, b) => a.us - b.us || b.db - a.db)
    .filter((point) => point.db > best && ((best = point.db), true));
}

function waysChart(points, layerOf) {
  const ways = [...new Set(points.map((point) => point.way))].sort();
  return chart("Ways tried and fits accepted: error alone against time on the chip (estimate). Filled: what runs; crossed: not legal for this toolchain; line: the Pareto front of one layer's legal ways.", (width) => {
    const layer = layerOf();
    const shown = layer ? points.filter((point) => point.layer === layer) : points;
    if (!shown.length) return null;
    const legal = shown.filter((point) => point.legal);
    const front = layer ? paretoFront(shown) : [];
    const common = { x: "us", y: "db", stroke: "way", channels: { layer: "layer", way: "way" } };
    return plot({
      width, height: 340, marginRight: 20, ariaLabel: "Ways of Linears: SQNR against estimated time",
      inset: 8, x: { type: "log", label: "time of the layer, µs (estimate)", grid: true }, y: { label: "SQNR alone, dB", grid: true, nice: true },
      color: { legend: true, domain: ways, scheme: "observable10" },
      marks: [
        front.length > 1 ? Plot.line(front, { x: "us", y: "db", stroke: "currentColor", strokeOpacity: 0.5, curve: "step-after" }) : null,
        Plot.dot(legal.filter((point) => !point.runs), { ...common, r: 4, tip: true }),
        Plot.dot(legal.filter((point) => point.runs), { ...common, fill: "way", r: 5, tip: true }),
        Plot.dot(shown.filter((point) => !point.legal), { ...common, symbol: "times", r: 4, tip: true }),
      ],
    });
  });
}

// How float values lie about their integers: octaves of the step, values below 0 downwards.
function valuesChart(values) {
  const total = values.zeros + d3.sum(values.negative) + d3.sum(values.positive);
  const lastUsed = Math.max(...[values.negative, values.positive].map((counts) => counts.findLastIndex((count) => count > 0)));
  const firstUsed = Math.min(...[values.negative, values.positive].map((counts) => counts.findIndex((count) => count > 0)).filter((place) => place >= 0));
  const clip = Math.log2(values.largest + 1);
  const fate = (exponent) => (exponent < -1 ? "becomes 0" : exponent >= clip ? "clipped" : "kept");
  const bars = [["positive", 1], ["negative", -1]].flatMap(([side, sign]) => values[side].map((count, place) => {
    const exponent = values.first_octave + place;
    return { x1: exponent, x2: exponent + 1, y: sign * count / total, fate: fate(exponent) };
  })).filter((bar) => bar.y !== 0);
  const share = (which) => percent(d3.sum(bars.filter((bar) => bar.fate === which), (bar) => Math.abs(bar.y)));
  const steps = (exponent) => (exponent < 0 ? `1/${2 ** -exponent}` : exponent < 11 ? String(2 ** exponent) : `2^${exponent}`);
  const text = `${values.dtype}, one step is ${magnitude(values.scale)}, clipped beyond ±${magnitude(values.scale * values.largest)}. `
    + `Below half a step: ${share("becomes 0")}; beyond the range: ${share("clipped")}; exactly 0: ${percent(values.zeros / total)}.`;
  return chart(text, (width) => plot({
    width, height: 200, ariaLabel: `Values of ${values.name} by magnitude`,
    x: { label: "magnitude in steps", domain: [Math.min(-2, values.first_octave + firstUsed), Math.max(clip + 1, values.first_octave + lastUsed + 1)], tickFormat: steps, ticks: 7 },
    y: { type: "sqrt", label: "− share of values +", tickFormat: (share) => percent(Math.abs(share)), ticks: 4, grid: true },
    color: { domain: ["becomes 0", "kept", "clipped"], range: ["var(--db1)", "var(--accent)", "var(--db0)"] },
    marks: [
      Plot.rectY(bars, { x1: "x1", x2: "x2", y: "y", fill: "fate", insetLeft: 0.5, insetRight: 0.5 }),
      Plot.ruleY([0]),
      Plot.ruleX([-1, clip], { stroke: "currentColor", strokeDasharray: "4 3" }),
    ],
  }), values.name);
}

// What each fake quant alone leaves of the outputs, the worst first.
function sensitivityChart(rows) {
  const worst = d3.sort(rows.filter((row) => isNumber(row.db)), (row) => row.db).slice(0, 25);
  const named = worst.map((row) => ({ ...row, label: `${row.op_name} (${row.sensitive_type})` }));
  return chart("The worst: SQNR of the outputs with one fake quant on and everything else float.", (width) => {
    const { room, margin } = beside(named.map((row) => row.label), width);
    return plot({
      width, height: 60 + 18 * named.length, marginLeft: margin, marginRight: 44, ariaLabel: "Outputs with one fake quant on",
      x: { label: "outputs, dB", grid: true, nice: true }, y: { label: null, domain: named.map((row) => row.label), tickFormat: (name) => shortened(name, room), tickSize: 0 },
      marks: [
        Plot.barX(named, { x: "db", y: "label", fill: CHOSEN, insetTop: 2, insetBottom: 2 }),
        Plot.text(named, { x: "db", y: "label", text: (row) => decibels(row.db), dx: 4, textAnchor: "start", fill: "currentColor" }),
      ],
    });
  });
}

function togetherChart(curve) {
  const points = curve.map(({ rows, outputs }) => ({ rows, db: d3.min(Object.values(outputs), (errors) => errors.sqnr) }));
  return chart("The worst fake quants together: what is left of the outputs.", (width) => plot({
    width, height: 240, ariaLabel: "Outputs with the worst fake quants together",
    x: { label: "fake quants that are on", grid: true, type: "log" }, y: { label: "outputs, dB", grid: true, nice: true },
    marks: [Plot.line(points, { x: "rows", y: "db", stroke: CHOSEN }), Plot.dot(points, { x: "rows", y: "db", fill: CHOSEN, tip: true })],
  }));
}
