// A table of calls that sorts, filters and shows a page at a time, however many reads there are.
const ROWS = 100;
const collator = new Intl.Collator("en", { numeric: true });
const grouped = number => number.toLocaleString("en");

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
};

// Columns: key of a call, title, class, and what a cell shows.
const COLUMNS = [
  { key: "read_id", title: "Read" },
  { key: "call", title: "Call", className: "call" },
  { key: "rank", title: "Rank", className: "rank", ranked: true },
  { key: "taxid", title: "TaxID", className: "number" },
  { key: "confidence", title: "Confidence", className: "number confidence", text: value => value.toFixed(4) },
  { key: "length_bp", title: "Bases", className: "number", text: grouped },
  { key: "reason", title: "Why not", unclassified: true },
  { key: "lineage", title: "Lineage", className: "lineage", ranked: true, text: value => value.replaceAll(";", " › ") },
];

export class CallTable {
  constructor(table, parts) {
    this.table = table;
    Object.assign(this, parts);
    let waits;
    this.filter.addEventListener("input", () => { clearTimeout(waits); waits = setTimeout(() => this.choose(), 120); });
    this.which.addEventListener("change", () => this.choose());
    this.back.addEventListener("click", () => this.turn(-1));
    this.on.addEventListener("click", () => this.turn(1));
  }

  show(calls, hasTaxonomy) {
    const refused = calls.some(call => call.reason);
    this.calls = calls;
    this.columns = COLUMNS.filter(column => (hasTaxonomy || !column.ranked) && (refused || !column.unclassified));
    this.texts = calls.map(call => [call.read_id, call.call, call.rank, call.taxid ?? "", call.reason, call.lineage].join("\n").toLowerCase());
    this.sorted = { key: null, down: false };
    this.filter.value = "";
    this.which.value = "all";
    this.drawHead();
    this.choose();
  }

  drawHead() {
    const row = document.createElement("tr");
    for (const column of this.columns) {
      const head = row.appendChild(element("th", column.className?.includes("number") ? "number" : "", ""));
      head.scope = "col";
      const button = head.appendChild(element("button", "", column.title));
      button.type = "button";
      button.addEventListener("click", () => this.sort(column.key));
      column.head = head;
    }
    const head = document.createElement("thead");
    head.append(row);
    this.table.replaceChildren(head, document.createElement("tbody"));
  }

  sort(key) {
    const again = this.sorted.key === key;
    this.sorted = { key, down: again ? !this.sorted.down : ["confidence", "length_bp"].includes(key) };
    for (const column of this.columns) {
      if (column.key === key) column.head.setAttribute("aria-sort", this.sorted.down ? "descending" : "ascending");
      else column.head.removeAttribute("aria-sort");
    }
    this.choose();
  }

  choose() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const which = this.which.value;
    this.rows = [];
    this.calls.forEach((call, place) => {
      if ((which === "called" && call.reason) || (which === "not" && !call.reason)) return;
      if (words.every(word => this.texts[place].includes(word))) this.rows.push(place);
    });
    const { key, down } = this.sorted;
    if (key) {
      const sign = down ? -1 : 1;
      const values = this.calls.map(call => call[key] ?? -1);
      const compare = typeof values[0] === "number" ? (a, b) => a - b : collator.compare;
      this.rows.sort((a, b) => sign * compare(values[a], values[b]) || a - b);
    }
    this.page = 0;
    this.draw();
  }

  turn(step) {
    this.page += step;
    this.draw();
    this.table.parentElement.scrollTop = 0;
  }

  draw() {
    const first = this.page * ROWS, last = Math.min(first + ROWS, this.rows.length);
    const body = document.createElement("tbody");
    for (const place of this.rows.slice(first, last)) {
      const call = this.calls[place];
      const row = body.appendChild(document.createElement("tr"));
      if (call.reason) row.className = "unclassified";
      for (const { key, className, text } of this.columns) {
        const value = call[key] ?? "";
        const cell = row.appendChild(element(key === "read_id" ? "th" : "td", className, text ? text(value) : value));
        if (key === "read_id") cell.scope = "row";
        if (key === "confidence") cell.style.setProperty("--share", value);
      }
    }
    this.table.tBodies[0].replaceWith(body);
    const of = this.rows.length === this.calls.length ? "" : ` (of ${grouped(this.calls.length)})`;
    const range = this.rows.length > ROWS ? `${grouped(first + 1)}–${grouped(last)} of ` : "";
    this.shown.textContent = `${range}${grouped(this.rows.length)} ${this.rows.length === 1 ? "row" : "rows"}${of}`;
    this.back.disabled = this.page === 0;
    this.on.disabled = last >= this.rows.length;
    this.back.parentElement.hidden = this.rows.length <= ROWS;
  }
}
