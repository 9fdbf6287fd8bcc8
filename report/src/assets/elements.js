// Elements from names and texts, and numbers for people. Text stays text: nothing here reads HTML, so whatever
// a model calls its parts is shown and never run.

const DATA = JSON.parse(document.getElementById("data").textContent);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null));
  return node;
}

const element = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

const drawn = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(d3.namespaces.svg, tag), attributes, children);

const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

// Decimal digits that are always shown; nothing where there is no figure.
const fixed = (digits) => (x) => (isNumber(x) ? x.toFixed(digits) : "–");
const decibels = fixed(1);

// A share in [0, 1]; what is not 0 is never shown as 0.
function percent(share) {
  if (!isNumber(share)) return "–";
  if (share === 0) return "0";
  return share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`;
}

// Of any magnitude.
function magnitude(x) {
  if (!isNumber(x)) return "–";
  const size = Math.abs(x);
  if (x === 0 || (size >= 0.01 && size < 1e5)) return String(Number(x.toPrecision(4)));
  return x.toExponential(2);
}

// What colour a figure has, from 0 (bad) to 4 (good), "none" without one; and which of several is the worst.
const SQNR = {
  classOf: (db) => (isNumber(db) ? d3.bisectRight([15, 25, 35, 50], db) : "none"),
  classes: ["below 15 dB", "15–25", "25–35", "35–50", "50 and more"], worst: d3.min,
};
const LOSS = {
  classOf: (db) => (isNumber(db) ? 4 - d3.bisectRight([2, 5, 10, 20], db) : "none"),
  classes: ["20 dB and more", "10–20", "5–10", "2–5", "below 2"], worst: d3.max,
};
