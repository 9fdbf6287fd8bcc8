// What the page has below its summary: a section for each thing that the job's files tell of.

const main = document.querySelector("main");
const contents = document.getElementById("contents");
const { result, sensitivity } = DATA;

function section(id, heading, ...children) {
  main.append(element("section", { id },
    element("h2", {}, heading, " ", element("a", { class: "anchor", href: address(id), "aria-label": `Link to ${heading}` }, "#")), ...children));
}

const code = (text) => element("code", {}, text);
const linked = (name) => (operatorsByName.has(name) && DATA.graph ? element("a", { href: address("graph", { op: name }) }, name) : String(name ?? "–"));
const smallest = (figures) => d3.min(figures.filter(isNumber)) ?? null;

// Everything that is known of each operator, in execution order.
function joinedOperators() {
  const { columns = [], rows = [] } = DATA.operators ?? {};
  const figures = new Map(rows.map((row) => Object.fromEntries(columns.map((column, place) => [column, row[place]]))).map((row) => [row.op_name, row]));
  const estimates = new Map((result?.estimate?.operators ?? []).map((operator) => [operator.name, operator.latency_us]));
  const alone = d3.group(sensitivityRows, (row) => row.op_name);
  const listed = DATA.graph?.operators ?? [...figures.values()].map((row) => ({ name: String(row.op_name), module: row.mod_name, op: row.base_op_type, inputs: [] }));
  return listed.map((operator) => ({
    ...figures.get(operator.name), ...operator,
    estimate_us: estimates.get(operator.name) ?? null,
    output_db: smallest((alone.get(operator.name) ?? []).map((row) => row.db)),
  }));
}

const sensitivityRows = (sensitivity?.rows ?? []).map((row) => ({
  ...row, db: smallest(Object.values(row.outputs).map((errors) => errors.sqnr)),
}));
const operators = joinedOperators();
const operatorsByName = new Map(operators.map((operator) => [operator.name, operator]));

const layers = (result?.layers ?? []).map((layer) => {
  const tried = { ...layer.isolated, ...layer.fits };
  const requested = tried[layer.requested] ?? (layer.requested === "auto" ? tried[DATA.request?.template] : undefined);
  const runs = tried[layer.effective];
  const [before, alone] = [requested?.sqnr_db ?? null, runs?.sqnr_db ?? null];
  return {
    ...layer, tried, before_db: before, alone_db: alone,
    gain_db: isNumber(before) && isNumber(alone) ? alone - before : null,
    validation_db: layer.accumulated.validation.sqnr_db, converted_db: layer.accumulated.converted.sqnr_db,
    us: layer.estimate.latency_us,
    class: layer.requested === layer.effective ? null : "changed",
  };
});

const number = (key, label, title, show = decibels) => ({ key, label, title, number: true, show });

if (result) {
  const rows = result.outputs.flatMap((output) => ["validation", "converted"].map((run) => ({ name: output.name, run, ...output[run] })));
  document.getElementById("summary").append(element("h3", {}, "Outputs of the whole quantized model"), table("summary", {
    describe: "Outputs", rows, columns: [
      { key: "name", label: "output" }, { key: "run", label: "run", title: "validation: fake quant; converted: integers" },
      number("sqnr_db", "SQNR dB", "Signal to quantization noise"), number("cosine", "cosine", "", fixed(6)),
      number("mse", "MSE", "", magnitude), number("atol", "max error", "", magnitude), number("lsb", "LSB", "max error in steps of the output", fixed(1)),
      { key: "reason", label: "remark", prose: true, show: (text) => text || "" },
    ],
  }));
}

if (result?.mended?.length) {
  section("changes", "Changes for the outputs", roundsChart(result.mended, DATA.request?.min_output_sqnr), table("changes", {
    describe: "Changes", rows: result.mended.map((step) => ({ ...step, state: step.kept ? "kept" : "taken back" })), columns: [
      { ...number("round", "round", "", String) }, { key: "op", label: "what cost the outputs", show: linked }, { key: "sensitive_type", label: "kind" },
      { key: "from", label: "from" }, { key: "to", label: "to" },
      number("share", "share", "Its share of the error at the outputs, an estimate", percent), number("left", "left", "What the change left of that, an estimate", percent),
      number("added_us", "added µs", "Time on the chip, an estimate"), number("before_sqnr_db", "before dB", "Worst output before the round"),
      number("output_sqnr_db", "after dB", "Worst output after the round"), { key: "state", label: "outcome" },
    ],
  }));
}

if (sensitivityRows.length) {
  section("sensitivity", "What each fake quant alone costs the outputs", sensitivityChart(sensitivityRows),
    sensitivity.together?.length ? togetherChart(sensitivity.together) : null, table("sensitivity", {
      describe: "Sensitivity", rows: sensitivityRows, sort: "db", columns: [
        { key: "op_name", label: "operator", show: linked }, { key: "sensitive_type", label: "kind" }, { key: "op_type", label: "op" }, { key: "quant_dtype", label: "dtype" },
        number("db", "outputs dB", "Worst output with this alone quantized"), number("estimate_db", "estimate dB", "The same to first order"),
        number("macs_share", "MACs", "Share of the model's", percent), { key: "reason", label: "remark", prose: true, show: (text) => text || "" },
      ],
    }));
}

// What the panel beside the graph says of an operator.
function detail(operator) {
  const facts = [
    ["operator", operator.op], ["shape", operator.shape], ["type", operator.quant_dtype], ["step", operator.qscale == null ? null : magnitude(operator.qscale)],
    ["alone", withUnit(operator.isolated_sqnr_db)], ["whole model, VALIDATION", withUnit(operator.SQNR)], ["whole model, CONVERTED", withUnit(operator.converted_sqnr_db)],
    ["lost here", withUnit(operator.drop_db)], ["outputs, this alone quantized", withUnit(operator.output_db)],
    ["become 0", operator.zero_share == null ? null : percent(operator.zero_share)], ["clipped", operator.clip_share == null ? null : percent(operator.clip_share)],
    ["range, float", range(operator, "base")], ["range, quantized", range(operator, "analy")],
    ["time (estimate)", operator.estimate_us == null ? null : `${fixed(2)(operator.estimate_us)} µs`],
  ].filter(([, value]) => value != null && value !== "");
  const layer = layers.find((one) => one.name === operator.name);
  const values = DATA.graph?.values?.find((one) => one.name === operator.name);
  const made = operator.outputs?.length ? element("p", {}, "Makes the output ", code(operator.outputs.join(", ")), ".") : null;
  return [
    element("h3", {}, operator.name), made,
    element("dl", { class: "facts" }, facts.map(([fact, value]) => [element("dt", {}, fact), element("dd", {}, String(value))])),
    layer ? element("p", {}, `Requested ${layer.requested}, runs ${layer.effective}. ${layer.reason} `, element("a", { href: address("layers", { q: layer.name }) }, "Its ways")) : null,
    values ? valuesChart(values) : null,
  ].filter((child) => child != null);
}

const withUnit = (db) => (isNumber(db) ? `${decibels(db)} dB` : null);
const range = (operator, of) => (isNumber(operator[`${of}_model_min`]) ? `${magnitude(operator[`${of}_model_min`])} … ${magnitude(operator[`${of}_model_max`])}` : null);

if (DATA.graph && operators.length) {
  const has = (key) => operators.some((operator) => isNumber(operator[key]));
  const measures = [
    { key: "output_db", label: "outputs, this alone quantized", ...SQNR },
    { key: "converted_sqnr_db", label: "error in the whole model, integers", ...SQNR },
    { key: "SQNR", label: "error in the whole model, VALIDATION", ...SQNR },
    { key: "isolated_sqnr_db", label: "error of the operator alone", ...SQNR },
    { key: "drop_db", label: "dB lost here", ...LOSS },
  ].map((measure) => ({ ...measure, of: (operator) => operator[measure.key] }));
  const known = measures.filter((measure) => has(measure.key));
  section("graph", "The model", modelGraph(operators, known.length ? known : measures.slice(1, 2), detail));
}

if (layers.length) {
  const changed = layers.filter((layer) => layer.class && isNumber(layer.before_db) && isNumber(layer.alone_db));
  section("layers", "Linears before and after", changed.length ? beforeAfterChart(changed) : null, table("layers", {
    describe: "Linears", rows: layers, columns: [
      { key: "name", label: "layer", show: linked }, { key: "requested", label: "requested" }, { key: "effective", label: "runs" },
      number("before_db", "requested dB", "The way requested, alone"), number("alone_db", "runs dB", "The way that runs, alone"), number("gain_db", "gain dB", "", (db) => (isNumber(db) && db !== 0 ? `${db > 0 ? "+" : ""}${decibels(db)}` : "–")),
      number("validation_db", "validation dB", "In the whole quantized model, fake quant"), number("converted_db", "converted dB", "In the whole quantized model, integers"),
      number("us", "est. µs", "Time on the chip, an estimate", fixed(2)), number("zero_fraction", "zeros", "Products or outputs that are 0", percent), number("clip_fraction", "clipped", "", percent),
      number("accumulator_bits", "bits", "What the largest sum needs beside its sign", String), { key: "reason", label: "reason", prose: true, show: (text) => text || "" },
    ],
  }));

  const points = layers.flatMap((layer) => Object.entries(layer.tried).map(([way, tried]) => ({
    layer: layer.name, way, db: tried.sqnr_db, us: tried.estimate.latency_us, legal: tried.legal, runs: way === layer.effective, bound: tried.estimate.bound,
    macs: tried.macs, bytes: tried.weight_bytes, held_out: tried.held_out_gain_db ?? null, reason: tried.reason, state: way === layer.effective ? "runs" : tried.legal ? "" : "not legal",
  })));
  const drawable = points.filter((point) => isNumber(point.db) && point.us > 0);
  if (points.length) {
    const names = [...new Set(drawable.map((point) => point.layer))];
    const several = d3.rollup(drawable, (tried) => tried.length, (point) => point.layer);
    const select = element("select", { onchange: () => picture.again() }, element("option", { value: "" }, "all Linears"),
      d3.sort(names, (name) => -several.get(name)).map((name) => element("option", { value: name }, name)));
    const picture = waysChart(drawable, () => select.value);
    section("ways", "Ways: error against cost", element("div", { class: "tools" }, element("label", {}, "Show: ", select)), picture, table("ways", {
      describe: "Ways", rows: points, columns: [
        { key: "layer", label: "layer", show: linked }, { key: "way", label: "way" }, { key: "state", label: "" },
        number("db", "SQNR dB", "Alone"), number("us", "est. µs", "Time on the chip, an estimate", fixed(2)), { key: "bound", label: "bound by" },
        number("macs", "MACs", "", String), number("bytes", "bytes", "Of weights and biases", String), number("held_out", "held out dB", "Over the plain way, on rows held out"),
        { key: "reason", label: "remark", prose: true, show: (text) => text || "" },
      ],
    }));
  }
}

if (DATA.graph?.values?.length) {
  const [first, rest] = [DATA.graph.values.slice(0, 6), DATA.graph.values.slice(6)];
  const grid = element("div", { class: "grid" }, first.map(valuesChart));
  const more = element("button", { type: "button", class: "more", onclick: () => { more.remove(); grid.append(...rest.map(valuesChart)); } }, `Show ${rest.length} more`);
  section("values", "Values of the operators that lose most",
    element("p", {}, "Float values by magnitude in steps of their integers, on a root scale. Dashed: half a step, below which a value becomes 0, and the end of the range, beyond which it is clipped."),
    grid, rest.length ? more : null);
}

if (DATA.operators?.rows.length) {
  section("operators", "Operators", table("operators", {
    describe: "Operators", rows: operators, columns: [
      { key: "name", label: "operator", show: linked }, { key: "op", label: "op" }, { key: "quant_dtype", label: "dtype" },
      number("drop_db", "lost dB", "From the worst input to what it makes"), number("isolated_sqnr_db", "alone dB", "The operator alone, on float inputs"),
      number("SQNR", "validation dB", "In the whole quantized model, fake quant"), number("converted_sqnr_db", "converted dB", "In the whole quantized model, integers"),
      number("zero_share", "zeros", "Elements that become 0, alone", percent), number("clip_share", "clipped", "Elements that saturate, alone", percent),
      number("range_covered", "range", "Largest magnitude over the largest that its integers stand for", fixed(2)), number("Cosine", "cosine", "", fixed(6)), number("qscale", "step", "", magnitude),
      number("estimate_us", "est. µs", "Time on the chip, an estimate", fixed(2)), { key: "shape", label: "shape" },
    ],
  }));
}

if (result?.notices?.length) {
  section("notices", "Notices", table("notices", {
    describe: "Notices", rows: result.notices.map((notice) => ({ ...notice, kind: notice.warning ? "warning" : "note" })), sort: "-kind",
    columns: [{ key: "kind", label: "kind" }, { key: "subject", label: "of", show: linked }, { key: "message", label: "message", prose: true }, { key: "code", label: "code", show: code }],
  }));
}

if (DATA.request) {
  section("settings", "Settings", element("dl", { class: "facts" }, Object.entries(DATA.request).map(([name, value]) => [element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, String(value))])),
    DATA.islands?.length ? element("p", {}, `In float: ${DATA.islands.map((island) => `${island.node} (${island.op_type})`).join(", ")}.`) : null);
}

for (const part of main.querySelectorAll("section")) {
  const heading = part.querySelector("h2").firstChild.textContent.trim();
  contents.append(element("a", { href: address(part.id) }, heading));
}
addEventListener("hashchange", goToNamed);
goToNamed();
// Charts are drawn once their width is known, and move what is below them.
requestAnimationFrame(() => requestAnimationFrame(goToNamed));
