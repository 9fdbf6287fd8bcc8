// The model's operators as a tree of modules, by the parts of their names: what can be folded, and what is
// seen of it. Knows nothing of how it is drawn.

// operators: { name, inputs }, inputs being places in the same list.
function moduleTree(operators) {
  const root = { key: "", label: "model", parent: null, children: [], leaves: [] };
  const groups = new Map([["", root]]);
  const parts = operators.map((operator) => operator.name.split(/(?<=[./])/).filter(Boolean));
  const prefixes = new Set(parts.flatMap((own) => own.slice(0, -1).map((_, end) => own.slice(0, end + 1).join("").replace(/[./]$/, ""))));
  const groupOf = (key, label, parent) => {
    if (!groups.has(key)) {
      const group = { key, label, parent, children: [], leaves: [] };
      groups.set(key, group);
      parent.children.push(group);
    }
    return groups.get(key);
  };
  operators.forEach((operator, place) => {
    let parent = root, key = "";
    const own = parts[place];
    // What is called like a module is the module's own result and lies in it.
    const depth = prefixes.has(operator.name) ? own.length : own.length - 1;
    for (let end = 0; end < depth; end += 1) {
      key += own[end];
      const label = own[end].replace(/[./]$/, "");
      if (label) parent = groupOf(key.replace(/[./]$/, ""), label, parent);
    }
    const leaf = { key: `operator ${place}`, label: own.at(-1), parent, place };
    parent.children.push(leaf);
    for (let group = parent; group; group = group.parent) group.leaves.push(place);
  });
  joined(root);
  return root;
}

// A module with nothing in it but another one is one with it.
function joined(group) {
  for (let place = 0; place < group.children.length; place += 1) {
    let child = group.children[place];
    while (child.children?.length === 1 && child.children[0].children) {
      const only = child.children[0];
      child = { ...only, label: `${child.label}.${only.label}`, parent: group };
      child.children.forEach((grandchild) => { grandchild.parent = child; });
      group.children[place] = child;
    }
    if (child.children) joined(child);
  }
}

const isGroup = (node) => Boolean(node.children);

// What is seen when these groups are open: nodes, open groups, and edges between nodes.
function seen(root, open, operators) {
  const nodes = [], opened = [], nodeOf = [];
  const visit = (node) => {
    if (isGroup(node) && (node === root || open.has(node.key))) {
      if (node !== root) opened.push(node);
      node.children.forEach(visit);
    } else {
      nodes.push(node);
      (isGroup(node) ? node.leaves : [node.place]).forEach((place) => { nodeOf[place] = node; });
    }
  };
  visit(root);
  const edges = new Map();
  operators.forEach((operator, place) => operator.inputs.forEach((input) => {
    const [from, to] = [nodeOf[input], nodeOf[place]];
    if (from !== to) edges.set(`${from.key}\n${to.key}`, [from, to]);
  }));
  return { nodes, opened, edges: [...edges.values()] };
}

// The groups to open so that no more than `count` nodes are seen: whole levels, so that equal blocks look equal.
function openedFor(root, count) {
  const open = new Set();
  let level = [root], visible = 1;
  while (level.length) {
    visible += d3.sum(level, (group) => group.children.length - 1);
    if (visible > count && level[0] !== root) break;
    level.forEach((group) => open.add(group.key));
    level = level.flatMap((group) => group.children.filter(isGroup));
  }
  return open;
}

function groupsOf(root) {
  return [root, ...root.children.filter(isGroup).flatMap(groupsOf)];
}
