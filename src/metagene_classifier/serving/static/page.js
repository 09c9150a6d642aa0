// Sends reads to this page's own server and shows what they are called. Every text of a file goes in as text, never as HTML.
import { CallTable } from "./table.js";

const LONG_PASTE = 20000;
const byId = id => document.getElementById(id);
const grouped = number => number.toLocaleString("en");
const bytes = number => number >= 2 ** 20 ? `${+(number / 2 ** 20).toFixed(1)} MiB` : `${grouped(number)} bytes`;
const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
};

const table = new CallTable(byId("table"), {
  filter: byId("filter"), which: byId("which"), shown: byId("shown"), back: byId("back"), on: byId("on"),
});
let model = null, running = null, result = null;

function say(text) { byId("status").textContent = text; }

function fail(text) {
  byId("error").textContent = text;
  byId("error").hidden = !text;
  if (text) say("");
}

async function answer(response) {
  if (response.ok) return response.json();
  let line = `The server answers ${response.status}.`;
  try { line = (await response.json()).error ?? line; } catch { /* no JSON: the status says enough */ }
  throw new Error(line);
}

async function loadModel() {
  model = await answer(await fetch("/api/model"));
  const { limits } = model;
  byId("about").textContent = `${model.program} · model ${model.name} · encoder ${model.encoder} · ${grouped(model.classes)} classes` +
    `${model.has_taxonomy ? "" : " · no taxonomy"}${model.calibrated ? "" : " · not calibrated"}`;
  byId("limits").textContent = `At most ${grouped(limits.max_reads)} reads and ${bytes(limits.max_bytes)} of text at once.`;
  byId("default-sure").textContent = model.closed_set ? "As the server has it: closed set"
    : model.threshold > 0 ? `As the server has it: ${+model.threshold.toFixed(4)}` : "As the server has it: the likeliest class";
  for (const one of document.querySelectorAll("[data-calibrated]")) one.hidden = !model.calibrated;
}

function asked() {
  const body = new FormData();
  const text = byId("text").value, [reads] = byId("reads").files, [mates] = byId("mates").files;
  if (reads && text.trim()) throw new Error("There are pasted reads and a file: clear one of them.");
  if (!reads && !text.trim()) throw new Error(mates ? "Choose the reads of these mates too." : "Paste reads, or choose a file.");
  const source = reads ?? new Blob([text]);
  const size = source.size + (mates?.size ?? 0);
  if (model && size > model.limits.max_bytes) throw new Error(`${bytes(size)} are too many: ${bytes(model.limits.max_bytes)} are taken at once.`);
  // The names of a user's files stay here.
  body.append("reads", source, "reads");
  if (mates) body.append("mates", mates, "mates");
  if (byId("interleaved").checked) body.append("interleaved", "true");
  const sure = document.querySelector("input[name=sure]:checked").value;
  if (sure) body.append(sure, sure === "closed_set" ? "true" : byId(sure).value);
  return body;
}

async function send(event) {
  event.preventDefault();
  if (running) return;
  fail("");
  let body;
  try { body = asked(); } catch (error) { fail(error.message); return; }
  running = new AbortController();
  const started = performance.now();
  const ticks = setInterval(() => { byId("seconds").textContent = `${Math.round((performance.now() - started) / 1000)} s`; }, 500);
  byId("send").disabled = true;
  byId("stop").hidden = false;
  say("Calling …");
  try {
    show(await answer(await fetch("/api/calls", { method: "POST", body, signal: running.signal })));
    say(`Done in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else if (error instanceof TypeError) fail("No answer: the server has ended, or a file has changed since it was chosen.");
    else fail(error.message);
  } finally {
    clearInterval(ticks);
    byId("seconds").textContent = "";
    byId("send").disabled = false;
    byId("stop").hidden = true;
    running = null;
  }
}

function show(calls) {
  result = calls;
  const what = calls.paired ? "pairs" : "reads";
  const share = part => `${(100 * part / calls.reads).toFixed(1)} %`;
  const names = new Set(calls.calls.filter(call => !call.reason).map(call => call.call));
  const tiles = [
    [calls.paired ? "Pairs" : "Reads", grouped(calls.reads)],
    ["Classified", grouped(calls.classified), share(calls.classified)],
    ["Taxa called", grouped(names.size)],
    ["Bases", grouped(calls.bases)],
    ["Confidence", calls.threshold === null ? "closed set" : calls.threshold > 0 ? `≥ ${+calls.threshold.toFixed(4)}` : "any"],
    ...Object.entries(calls.reasons).map(([reason, count]) => [`Unclassified: ${reason}`, grouped(count), share(count)]),
  ];
  byId("tiles").replaceChildren(...tiles.map(([title, value, note]) => {
    const tile = document.createElement("div");
    tile.append(element("dt", "", title), element("dd", "", value));
    if (note) tile.append(element("dd", "note", note));
    return tile;
  }));
  byId("notes").replaceChildren(...calls.noticed.map(line => element("li", "", line)));
  byId("notes").hidden = !calls.noticed.length;
  const picture = element("div", "sunburst", "");
  byId("picture").replaceChildren(picture);
  byId("result").hidden = false;
  window.mgcSunburst(picture, { ...calls.sunburst, caption: `The ${what} by taxon` });
  table.show(calls.calls, model?.has_taxonomy ?? true);
  byId("downloads").replaceChildren(...(model?.formats ?? []).map(({ name, what, lacking }) => {
    const item = document.createElement("li");
    const link = item.appendChild(element(lacking ? "b" : "a", "", name));
    if (!lacking) {
      link.href = `/api/results/${encodeURIComponent(calls.id)}/files/${encodeURIComponent(name)}`;
      link.download = "";
    }
    item.append(element("span", "", lacking ? `Not here: ${lacking}` : what));
    return item;
  }));
  byId("kept").textContent = `The server keeps these reads and calls in memory for ${Math.round(calls.keep_s / 60)} minutes at most.`;
  byId("forget").disabled = false;
  byId("result-title").focus();
}

async function forget() {
  if (!result) return;
  await fetch(`/api/results/${encodeURIComponent(result.id)}`, { method: "DELETE" });
  result = null;
  byId("result").hidden = true;
  say("Forgotten.");
  byId("text").focus();
}

function clear() {
  byId("form").reset();
  fail("");
  say("");
  byId("text").focus();
}

// Two dropped files are reads and mates, by the order of their names: _R1 before _R2.
function drop(event) {
  event.preventDefault();
  byId("drop").classList.remove("over");
  const files = [...event.dataTransfer.files].sort((a, b) => a.name < b.name ? -1 : 1);
  if (!files.length) return;
  if (files.length > 2) { fail(`${files.length} files were dropped: drop one, or the two of a pair.`); return; }
  fail("");
  byId("text").value = "";
  [byId("reads"), byId("mates")].forEach((input, place) => {
    const held = new DataTransfer();
    if (files[place]) held.items.add(files[place]);
    input.files = held.files;
  });
}

// As an edit that can be undone a few hundred kilobytes take seconds; put in as a value they do not.
byId("text").addEventListener("paste", event => {
  const text = event.clipboardData.getData("text/plain");
  if (text.length < LONG_PASTE) return;
  event.preventDefault();
  const field = event.target;
  field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
});
byId("form").addEventListener("submit", send);
byId("stop").addEventListener("click", () => running?.abort());
byId("clear").addEventListener("click", clear);
byId("forget").addEventListener("click", () => forget().catch(() => fail("No answer: the server has ended.")));
for (const id of ["confidence", "target_precision"]) {
  byId(id).addEventListener("input", () => { document.querySelector(`input[name=sure][value=${id}]`).checked = true; });
}
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, event => { event.preventDefault(); byId("drop").classList.add("over"); });
}
document.addEventListener("dragleave", event => { if (!event.relatedTarget) byId("drop").classList.remove("over"); });
document.addEventListener("drop", drop);
loadModel().catch(error => fail(error instanceof TypeError ? "No answer: the server has ended." : error.message));
