// A table that sorts, filters and copies. Of very long ones the first rows are shown, more on demand.

const ROWS_SHOWN = 1000;

// columns: { key, label, title, number, prose, show(value, row) }; values are row[key]. A number column is sorted by
// value, what has none last; any other by text.
function table(section, { columns, rows, sort = "", describe }) {
  let filter = "";
  let shown = ROWS_SHOWN;
  const byKey = new Map(columns.map((column) => [column.key, column]));

  const input = element("input", {
    type: "search", placeholder: "Filter", "aria-label": `Filter ${describe}`,
    oninput: () => { filter = input.value; changed(); },
  });
  const count = element("output", { class: "count" });
  const copy = element("button", { type: "button", onclick: copied }, "Copy");
  const more = element("button", { type: "button", class: "more", onclick: () => { shown = Infinity; draw(); } });
  const heads = columns.map((column) =>
    element("th", { scope: "col", class: column.number ? "number" : null },
      element("button", { type: "button", title: column.title, onclick: () => sortBy(column) }, column.label)));
  const body = element("tbody");
  const node = element("div", { class: "table" },
    element("div", { class: "tools" }, input, copy, count),
    element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": describe },
      element("table", {}, element("thead", {}, element("tr", {}, heads)), body)),
    more);

  function sortBy(column) {
    sort = sort === column.key ? `-${column.key}` : column.key;
    changed();
  }

  function changed() {
    choose(section, { q: filter, sort });
    draw();
  }

  function ordered() {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (row) => columns.map((column) => row[column.key] ?? "").join(" ").toLowerCase();
    const left = words.length ? rows.filter((row) => words.every((word) => text(row).includes(word))) : [...rows];
    const column = byKey.get(sort.replace(/^-/, ""));
    if (!column) return left;
    const sign = sort.startsWith("-") ? -1 : 1;
    const missing = (row) => (row[column.key] == null || row[column.key] === "" ? 1 : 0);
    const order = column.number
      ? (a, b) => a[column.key] - b[column.key]
      : (a, b) => String(a[column.key]).localeCompare(String(b[column.key]), "en", { numeric: true });
    return left.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : sign * order(a, b)));
  }

  function draw() {
    const left = ordered();
    const lines = left.slice(0, shown).map((row) => element("tr", { class: row.class },
      columns.map((column) => element("td", { class: column.number ? "number" : column.prose ? "prose" : null },
        column.show ? column.show(row[column.key], row) : String(row[column.key] ?? "–")))));
    body.replaceChildren(...lines);
    columns.forEach((column, place) => {
      const direction = sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : "none";
      heads[place].setAttribute("aria-sort", direction);
    });
    count.textContent = left.length === rows.length ? `${rows.length} rows` : `${left.length} of ${rows.length} rows`;
    more.hidden = left.length <= shown;
    more.textContent = `Show all ${left.length} rows`;
  }

  async function copied() {
    const plain = (value) => String(value ?? "").replace(/[\t\r\n]/g, " ");
    const lines = [columns.map((column) => column.label), ...ordered().map((row) => columns.map((column) => row[column.key]))];
    const text = lines.map((line) => line.map(plain).join("\t")).join("\n");
    copy.textContent = (await toClipboard(text)) ? "Copied" : "Not allowed to copy";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  }

  follow(section, (chosen) => {
    filter = input.value = chosen.get("q") ?? "";
    sort = chosen.get("sort") ?? sort;
    draw();
  });
  draw();
  return node;
}

// Browsers that keep the clipboard from files still copy what is selected.
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { class: "offscreen" }, text);
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
