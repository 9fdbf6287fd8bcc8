// Jobs of a server as they run. Everything shown is text from the server, put into elements as text. The token
// goes with each call as a header and nowhere else: it is in no address and in no cookie.

const KEY = "dual16 token";
const LIST_EVERY_MS = 5000;
const AGAIN_AFTER_MS = 2000;
const at = (id) => document.getElementById(id);

let watching = null;

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, signal) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal, cache: "no-store", credentials: "omit" });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, told.message ?? `the server answered ${answer.status}`);
}

const asked = async (path, signal) => (await ask(path, signal)).json();

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else if (value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null));
  return node;
}

const decibels = (metrics) => (typeof metrics?.sqnr_db === "number" ? metrics.sqnr_db.toFixed(1) : metrics?.atol === 0 ? "no error" : "–");
const moment = (time) => (time ? new Date(time).toLocaleString() : "–");
const idOf = (job) => job.name.replace("jobs/", "");
const modelOf = (job) => job.spec?.onnx?.model?.name ?? job.spec?.layers?.weights?.name ?? "";

function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit += 1) size /= 1024;
  return `${unit ? size.toFixed(1) : size} ${units[unit]}`;
}

function say(problem) {
  at("trouble").hidden = !problem;
  at("trouble").textContent = problem ?? "";
}

// Shows the form where the server asks for a token, the message where anything else is wrong.
function failed(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    sessionStorage.removeItem(KEY);
    askForToken();
  }
  say(error instanceof Refused ? error.message : "the server cannot be reached; trying again");
}

function askForToken() {
  at("entry").hidden = false;
  at("leave").hidden = at("jobs").hidden = at("job").hidden = true;
  at("token").focus();
}

function succeeded() {
  at("entry").hidden = true;
  at("leave").hidden = sessionStorage.getItem(KEY) === null;
  say(null);
}

// ---- the list

let older = [];

function jobRow(job) {
  const running = job.stages?.find((stage) => stage.done < stage.tasks) ?? job.stages?.at(-1);
  const stage = running && job.state === "RUNNING" ? `${running.stage} ${running.done}/${running.tasks}` : "";
  return element("tr", {},
    element("td", {}, element("a", { href: `#${job.name}` }, element("code", {}, idOf(job).slice(0, 8)))),
    element("td", { class: "prose" }, job.display_name ?? ""), element("td", {}, modelOf(job)),
    element("td", { class: job.state }, job.state), element("td", {}, stage), element("td", {}, moment(job.create_time)));
}

async function list(signal) {
  const [page, info] = await Promise.all([asked("api/jobs", signal), asked("api/info", signal)]);
  at("queue").textContent = `${info.queued_tasks} tasks queued, ${info.leased_tasks} running, ${bytes(info.stored_bytes)} stored`;
  const rows = [...page.jobs, ...older.flatMap((more) => more.jobs)].map(jobRow);
  at("jobs").querySelector("tbody").replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { colspan: 6 }, "There is no job."))]));
  const next = (older.at(-1) ?? page).next_page_token;
  at("older").hidden = !next;
  at("older").onclick = async () => {
    try {
      older.push(await asked(`api/jobs?page_token=${encodeURIComponent(next)}`));
      await list();
    } catch (error) { failed(error); }
  };
  at("jobs").hidden = false;
}

// ---- one job

// What its events told; events may repeat themselves after a retry, and then the newest counts.
const nothingTold = () => ({ stages: new Map(), layers: new Map(), outputs: new Map(), changes: new Map(), operators: 0, sensitivity: 0, notices: new Map(), retries: [] });

function take(told, event) {
  const { stage_started, task_done, layer_measured, layer_accumulated, output_measured, mended, notice, task_retried } = event;
  const layer = (name) => told.layers.get(name) ?? told.layers.set(name, {}).get(name);
  if (stage_started) told.stages.set(stage_started.stage, { done: 0, ...stage_started });
  if (task_done) told.stages.set(task_done.stage, task_done);
  if (layer_measured) Object.assign(layer(layer_measured.layer), layer_measured);
  if (layer_accumulated) Object.assign(layer(layer_accumulated.layer), layer_accumulated);
  if (output_measured) told.outputs.set(output_measured.output, output_measured);
  if (mended) told.changes.set([mended.round, mended.op, mended.to].join("\n"), mended);
  if (event.operator_measured) told.operators += 1;
  if (event.sensitivity_measured) told.sensitivity += 1;
  if (notice) told.notices.set([notice.code, notice.subject, notice.message].join("\n"), notice);
  if (task_retried) told.retries.push(task_retried);
}

function tableOf(heading, heads, rows) {
  if (!rows.length) return null;
  const cell = (value, place) => element("td", { class: heads[place].startsWith("#") ? "number" : heads[place].startsWith("~") ? "prose" : null }, String(value ?? "–"));
  return [element("h3", {}, heading), element("div", { class: "wide" }, element("table", {},
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col", class: head.startsWith("#") ? "number" : null }, head.replace(/^[#~]/, ""))))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map(cell))))))];
}

function aloneOf(layer) {
  const way = layer.ways?.find((one) => one.way === layer.effective);
  return [decibels(way?.metrics), way?.estimate ? way.estimate.latency_us.toFixed(2) : "–"];
}

async function download(path, name) {
  try {
    const answer = await ask(path);
    const url = URL.createObjectURL(await answer.blob());
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  } catch (error) { failed(error); }
}

const file = (path, name, about) => element("li", {}, element("button", { type: "button", onclick: () => download(path, name) }, name), ` ${about}`);

// A job that measured something has a report.
const reportOf = (job) => (job.artifacts.some(({ name }) => name === "result.json" || name === "sensitivity.json")
  ? file(`api/${job.name}/report.html`, "report.html", "all of it as one page, which opens without this server") : null);

function show(job, told) {
  const facts = [["job", idOf(job)], ["name", job.display_name], ["model", modelOf(job)], ["created", moment(job.create_time)], ["ended", job.end_time && moment(job.end_time)]];
  const stages = [...told.stages.values()].map((stage) => element("tr", {},
    element("td", {}, stage.stage), element("td", {}, element("progress", { max: stage.tasks, value: stage.done, "aria-label": stage.stage })), element("td", { class: "number" }, `${stage.done}/${stage.tasks}`)));
  const layers = [...told.layers].map(([name, layer]) => [name, layer.requested, layer.effective, ...aloneOf(layer), decibels(layer.validation), decibels(layer.converted), layer.reason]);
  const notices = [...told.notices.values()].sort((a, b) => (b.severity === "WARNING") - (a.severity === "WARNING"));
  at("job").replaceChildren(
    element("h2", {}, element("a", { href: "#" }, "Jobs"), ` / ${job.display_name || idOf(job)} `, element("span", { class: `state ${job.state}` }, job.state)),
    job.error ? element("p", { class: "FAILED" }, `${job.error.message} [${job.error.code}]`) : "",
    element("dl", {}, facts.filter(([, fact]) => fact).map(([name, fact]) => [element("dt", {}, name), element("dd", {}, fact)])),
    ...[
      stages.length ? [element("h3", {}, "Stages"), element("div", { class: "wide" }, element("table", { id: "stages" }, element("tbody", {}, stages)))] : null,
      tableOf("Outputs of the whole quantized model", ["output", "#validation dB", "#converted dB", "#max error"], [...told.outputs.values()].map((output) =>
        [output.output, decibels(output.validation), decibels(output.converted), output.converted?.atol?.toPrecision(3)])),
      tableOf("Changes for the outputs", ["#round", "what cost them", "from", "to", "#after dB", "outcome"], [...told.changes.values()].map((step) =>
        [step.round, step.op, step.from, step.to, step.output_sqnr_db?.toFixed(1), step.kept ? "kept" : "taken back"])),
      tableOf("Linears", ["layer", "requested", "runs", "#alone dB", "#est. µs", "#validation dB", "#converted dB", "~reason"], layers),
      tableOf("Notices", ["kind", "of", "~message", "code"], notices.map((notice) => [notice.severity === "WARNING" ? "warning" : "note", notice.subject, notice.message, notice.code])),
      tableOf("Tried again", ["task", "~why"], told.retries.map((retry) => [retry.task, retry.error?.message])),
      job.artifacts?.length ? [element("h3", {}, "Results"), element("ul", { id: "artifacts" }, reportOf(job), job.artifacts.map(({ name, size }) =>
        file(`api/${job.name}/artifacts/${encodeURIComponent(name)}`, name, bytes(size))))] : null,
    ].flat(Infinity).filter((child) => child != null));
  at("job").hidden = false;
}

const ENDED = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);

// Events after those that were seen, until the stream ends.
async function* events(name, after, signal) {
  const answer = await ask(`api/${name}/events?after=${after}`, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}

async function watch(name, signal) {
  const told = nothingTold();
  let after = 0;
  while (!signal.aborted) {
    try {
      let job = await asked(`api/${name}`, signal);
      succeeded();
      show(job, told);
      let planned = false;
      for await (const event of events(name, after, signal)) {
        after = event.sequence;
        take(told, event);
        if (event.state_changed) job = { ...job, ...event.state_changed };
        // Many events come at once; one picture of them is enough.
        if (!planned) {
          planned = true;
          requestAnimationFrame(() => { planned = false; if (!signal.aborted) show(job, told); });
        }
      }
      job = await asked(`api/${name}`, signal);
      show(job, told);
      if (ENDED.has(job.state)) return;
    } catch (error) {
      if (signal.aborted) return;
      failed(error);
      if (error.status && error.status < 500) return;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER_MS));
    }
  }
}

async function listForever(signal) {
  while (!signal.aborted) {
    try {
      await list(signal);
      succeeded();
    } catch (error) {
      failed(error);
      if (error.status === 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, LIST_EVERY_MS));
  }
}

async function start() {
  watching?.abort();
  watching = new AbortController();
  const { signal } = watching;
  const name = location.hash.slice(1);
  at("jobs").hidden = at("job").hidden = true;
  at("job").replaceChildren();
  older = [];
  say(null);
  if (sessionStorage.getItem(KEY) === null) {
    const asks = await asked("api/entry", signal).then((entry) => entry.asks_for_token).catch(() => false);
    if (signal.aborted) return;
    if (asks) return askForToken();
  }
  if (/^jobs\/[0-9a-f-]+$/.test(name)) watch(name, signal);
  else listForever(signal);
}

at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("token").value.trim());
  at("token").value = "";
  start();
});
at("leave").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  start();
});
addEventListener("hashchange", start);
start();
