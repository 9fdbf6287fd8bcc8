// What the address names behind its #: a section and what is chosen in it, as in
// #operators?q=LayerNorm&sort=-drop_db. Whatever is chosen changes it, so that it can be sent to somebody.

const followers = new Map();

function named() {
  const [section, query = ""] = location.hash.slice(1).split("?");
  return { section, chosen: new URLSearchParams(query) };
}

function address(section, chosen = {}) {
  const entries = Object.entries(chosen).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(entries).toString();
  return `#${section}${query ? `?${query}` : ""}`;
}

// Writes what is chosen into the address without going anywhere.
function choose(section, chosen) {
  history.replaceState(null, "", address(section, chosen));
}

// Has a section follow the address.
function follow(section, follower) {
  followers.set(section, follower);
}

function goToNamed() {
  const { section, chosen } = named();
  const target = section && document.getElementById(section);
  if (!target) return;
  followers.get(section)?.(chosen);
  target.scrollIntoView();
}
