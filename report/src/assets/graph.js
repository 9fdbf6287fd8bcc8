// The whole model as a graph: modules fold and unfold, every node has the colour of its error and says it in
// words as well.

const SEEN_AT_FIRST = 32;
// Boxes around open modules cost the layout most; beyond this many nodes they are left out.
const MOST_BOXED = 90;
const MOST_SEEN = 600;
const LABEL = 15;

// measures: { key, label, of(operator) -> dB } with the classes of SQNR or LOSS.
function modelGraph(operators, measures, detail) {
  const root = moduleTree(operators);
  const groups = new Map(groupsOf(root).map((group) => [group.key, group]));
  let open = openedFor(root, SEEN_AT_FIRST);
  let measure = measures[0], scale = null, selected = null, size = [1, 1];

  const svg = drawn("svg", { role: "group", "aria-label": "Graph of the model" });
  const canvas = element("div", { class: "canvas", tabindex: "0", role: "region", "aria-label": "Graph of the model, scrolls" }, svg);
  const panel = element("aside", { class: "panel", "aria-live": "polite" });
  const select = element("select", { onchange: () => { measure = measures.find((one) => one.key === select.value); draw(); } },
    measures.map((one) => element("option", { value: one.key }, one.label)));
  const button = (text, title, onclick) => element("button", { type: "button", title, onclick }, text);
  const all = button("Open all", "Open every module", () => { open = new Set(groups.keys()); draw(); });
  const tools = element("div", { class: "tools" },
    element("label", {}, "Colour: ", select),
    all, button("Fold", "As it was at first", () => { open = openedFor(root, SEEN_AT_FIRST); draw(); }),
    button("−", "Smaller", () => zoom(0.8)), button("+", "Larger", () => zoom(1.25)), button("Fit", "Fit the width", () => { scale = null; sized(); }));
  all.hidden = operators.length > MOST_SEEN;
  const legend = element("p", { class: "legend" });
  const node = element("div", {}, tools, legend, element("div", { class: "split" }, canvas, panel));

  const figureOf = (item) => measure.worst(item.leaves ?? [item.place], (place) => {
    const db = measure.of(operators[place]);
    return isNumber(db) ? db : undefined;
  });

  function explained() {
    legend.replaceChildren(`${measure.label}; of a module the worst inside: `,
      ...measure.classes.map((text, place) => element("span", { class: `swatch db${place}` }, text)),
      element("span", { class: "swatch dbnone" }, "no figure"));
  }

  function layout() {
    const { nodes, opened, edges } = seen(root, open, operators);
    const boxed = nodes.length <= MOST_BOXED;
    const graph = new dagre.graphlib.Graph({ compound: boxed });
    graph.setGraph({ rankdir: "TB", nodesep: 18, ranksep: 34, marginx: 12, marginy: boxed ? 4 * LABEL : 12 });
    graph.setDefaultEdgeLabel(() => ({}));
    for (const item of nodes) graph.setNode(item.key, { width: Math.max(84, 24 + 7.2 * Math.max(labelOf(item).length, saidOf(item).length)), height: 44, item });
    if (boxed) {
      for (const group of opened) graph.setNode(group.key, { item: group, open: true });
      for (const item of [...nodes, ...opened]) if (item.parent !== root && open.has(item.parent.key)) graph.setParent(item.key, item.parent.key);
    }
    for (const [from, to] of edges) graph.setEdge(from.key, to.key);
    dagre.layout(graph);
    return { graph, nodes, opened: boxed ? opened : [] };
  }

  // Open boxes one in another, from this one inwards.
  const nested = (group) => 1 + (d3.max(group.children.filter((child) => isGroup(child) && open.has(child.key)), nested) ?? 0);
  const labelOf = (item) => (isGroup(item) ? `▸ ${item.label}` : item.label);
  const saidOf = (item) => {
    const figure = figureOf(item);
    const what = isGroup(item) ? `${item.leaves.length} operators` : operators[item.place].op;
    return isNumber(figure) ? `${what} · ${decibels(figure)} dB` : what;
  };

  function draw() {
    const { graph, nodes, opened } = layout();
    const { width, height } = graph.graph();
    size = [Math.ceil(width), Math.ceil(height)];
    svg.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
    const line = d3.line((point) => point.x, (point) => point.y).curve(d3.curveBasis);
    const boxes = d3.sort(opened, (group) => group.key.length).map((group) => {
      const { x, y, width, height } = graph.node(group.key);
      // Room for the label of each box that begins here.
      const top = y - height / 2 - LABEL * nested(group);
      return drawn("g", { class: "box" },
        drawn("rect", { x: x - width / 2, y: top, width, height: y + height / 2 - top, rx: 6 }),
        acting(drawn("text", { x: x - width / 2 + 6, y: top + 13 }, `▾ ${group.label}`), `Fold ${group.key}`, () => toggle(group)));
    });
    const edges = graph.edges().map((edge) => drawn("path", { class: "edge", d: line(graph.edge(edge).points) }));
    const shapes = nodes.map((item) => {
      const { x, y, width, height } = graph.node(item.key);
      const name = isGroup(item) ? item.key : operators[item.place].name;
      const shape = drawn("g", { class: `node db${measure.classOf(figureOf(item))}${item.key === selected ? " selected" : ""}`, transform: `translate(${x - width / 2},${y - height / 2})`, "data-key": item.key },
        drawn("title", {}, `${name}: ${saidOf(item)}`),
        drawn("rect", { width, height, rx: isGroup(item) ? 10 : 3 }),
        drawn("text", { x: width / 2, y: 18, class: "name" }, labelOf(item)),
        drawn("text", { x: width / 2, y: 34 }, saidOf(item)));
      return acting(shape, isGroup(item) ? `Open ${name}, ${saidOf(item)}` : `${name}, ${saidOf(item)}`, () => (isGroup(item) ? toggle(item) : pick(item)));
    });
    svg.replaceChildren(...boxes, ...edges, ...shapes);
    explained();
    sized();
  }

  function acting(shape, label, act) {
    return filled(shape, {
      tabindex: "0", role: "button", "aria-label": label, onclick: act,
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } },
    }, []);
  }

  // Without a scale of its own it fits the width, as far as it can be read then.
  function sized() {
    const fit = Math.min(1, Math.max(0.55, (canvas.clientWidth - 16) / size[0]));
    svg.setAttribute("width", size[0] * (scale ?? fit));
    svg.setAttribute("height", size[1] * (scale ?? fit));
  }

  function zoom(factor) {
    const now = Number(svg.getAttribute("width")) / size[0];
    scale = Math.min(3, Math.max(0.1, now * factor));
    sized();
  }

  function toggle(group) {
    if (open.has(group.key)) groupsOf(group).forEach((inner) => open.delete(inner.key));
    else open.add(group.key);
    draw();
    svg.querySelector(`[data-key="${CSS.escape(group.key)}"]`)?.focus();
  }

  function pick(item) {
    selected = item.key;
    svg.querySelectorAll(".selected").forEach((shape) => shape.classList.remove("selected"));
    svg.querySelector(`[data-key="${CSS.escape(item.key)}"]`)?.classList.add("selected");
    const path = [];
    for (let group = item.parent; group && group !== root; group = group.parent) path.unshift(group);
    panel.replaceChildren(
      element("p", { class: "path" }, path.map((group) => element("button", { type: "button", title: `Fold ${group.key}`, onclick: () => toggle(group) }, group.label))),
      ...detail(operators[item.place]));
    choose("graph", { op: operators[item.place].name });
  }

  // The operator of this name, with all modules around it open.
  function show(name) {
    const place = operators.findIndex((operator) => operator.name === name);
    if (place < 0) {
      panel.replaceChildren(element("p", {}, `No operator is called ${name} in the model as it runs.`));
      return;
    }
    const inside = [...groups.values()].filter((group) => group.leaves.includes(place));
    inside.forEach((group) => open.add(group.key));
    draw();
    const leaf = inside.flatMap((group) => group.children).find((child) => child.place === place);
    pick(leaf);
    const shape = svg.querySelector(".selected");
    const [at, view] = [shape.getBoundingClientRect(), canvas.getBoundingClientRect()];
    canvas.scrollBy(at.left - view.left - view.width / 2 + at.width / 2, at.top - view.top - view.height / 3);
  }

  panel.append(element("p", {}, "Choose an operator to see its figures; a module opens."));
  new ResizeObserver(sized).observe(canvas);
  follow("graph", (chosen) => { if (chosen.get("op")) show(chosen.get("op")); });
  draw();
  return node;
}
