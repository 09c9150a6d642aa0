// Draws every <div class="sunburst"> of the page from its data, and lets it be zoomed by mouse and keyboard.
// The layout is that of sunburst.py, with any clade in the middle.
(() => {
  "use strict";
  const FULL = 0.99999, FONT = 6;
  const SIZE = 640, OUTER = 316, HOLE = 78, NARROWEST = 0.0004;

  const svgElement = (name, attributes = {}) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const htmlElement = (name, className = "", text = "") => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text) element.textContent = text;
    return element;
  };
  const grouped = number => number.toLocaleString("en");
  const percent = (part, whole) => (whole ? 100 * part / whole : 0).toFixed(2) + " %";
  const cut = (text, room) => text.length * FONT <= room ? text : text.slice(0, Math.max(1, Math.floor(room / FONT) - 1)) + "…";

  const point = (radius, fraction) => {
    const angle = 2 * Math.PI * fraction;
    return `${(SIZE / 2 + radius * Math.sin(angle)).toFixed(2)} ${(SIZE / 2 - radius * Math.cos(angle)).toFixed(2)}`;
  };
  const arc = (start, end, inner, outer) => {
    end = Math.min(end, start + FULL);
    const large = end - start > 0.5 ? 1 : 0;
    return `M${point(outer, start)}A${outer} ${outer} 0 ${large} 1 ${point(outer, end)}L${point(inner, end)}A${inner} ${inner} 0 ${large} 0 ${point(inner, start)}Z`;
  };
  const shade = (colour, depth) => {
    const white = Math.min(0.55, 0.11 * (depth - 1));
    const mixed = [1, 3, 5].map(at => {
      const value = parseInt(colour.slice(at, at + 2), 16);
      return Math.round(value + (255 - value) * white).toString(16).padStart(2, "0");
    });
    return "#" + mixed.join("");
  };

  function draw(host, data) {
    const { names, ranks, parents, reads, colours, depths, palette } = data;
    const children = names.map(() => []);
    for (let node = 1; node < names.length; node++) children[parents[node]].push(node);
    let focus = 0;

    host.textContent = "";
    const picture = host.appendChild(htmlElement("div", "sunburst-picture"));
    const side = host.appendChild(htmlElement("div", "sunburst-side"));
    const way = side.appendChild(htmlElement("nav", "sunburst-path"));
    way.setAttribute("aria-label", "Clade in the middle");
    const now = side.appendChild(htmlElement("p", "sunburst-now"));
    now.setAttribute("role", "status");
    const list = side.appendChild(htmlElement("div", "sunburst-list"));
    const arcs = new Map(), rows = new Map();

    const described = node => `${names[node]}${ranks[node] ? ` (${ranks[node]})` : ""}: ${grouped(reads[node])} reads, ${percent(reads[node], reads[0])}`;
    const light = (node, on) => {
      for (const shown of [arcs.get(node), rows.get(node)]) if (shown) shown.classList.toggle("lit", on);
    };
    const follow = (element, node) => {
      element.addEventListener("pointerenter", () => light(node, true));
      element.addEventListener("pointerleave", () => light(node, false));
    };

    function drawPicture() {
      const svg = svgElement("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": `${data.caption}: ${described(focus)}` });
      const depth = new Map([[focus, 0]]), start = new Map([[focus, 0]]), next = new Map([[focus, 0]]);
      let rings = 1, small = 0;
      for (let node = focus + 1; node < names.length; node++) {
        const parent = parents[node];
        if (!depth.has(parent)) continue;
        depth.set(node, depth.get(parent) + 1);
        start.set(node, next.get(parent));
        next.set(parent, next.get(parent) + reads[node] / reads[focus]);
        next.set(node, start.get(node));
        if (reads[node] / reads[focus] < NARROWEST) small += 1;
        else rings = Math.max(rings, depth.get(node));
      }
      const ring = (OUTER - HOLE) / rings;
      arcs.clear();
      const labels = [];
      for (const [node, level] of depth) {
        const share = reads[node] / reads[focus];
        if (node === focus || share < NARROWEST) continue;
        const begin = start.get(node), inner = HOLE + (level - 1) * ring;
        const outer = children[node].length ? inner + ring : OUTER;
        const path = svg.appendChild(svgElement("path", { d: arc(begin, begin + share, inner, outer), fill: shade(palette[colours[node]], depths[node]) }));
        path.appendChild(svgElement("title")).textContent = described(node);
        path.addEventListener("click", () => children[node].length ? zoom(node, true) : say(node));
        follow(path, node);
        arcs.set(node, path);
        labels.push([node, begin + share / 2, inner, outer, share]);
      }
      for (const [node, middle, inner, outer, share] of labels) {
        const radius = (inner + outer) / 2, width = 2 * Math.PI * radius * Math.min(share, FULL);
        const along = outer - inner > 12 ? Math.min(width - 6, 2 * Math.sqrt(Math.max(0, (outer - 6) ** 2 - radius ** 2))) : 0;
        const radial = width > 12 ? outer - inner - 8 : 0;
        const room = Math.max(along, radial);
        if (room < 4 * FONT) continue;
        let turn = 360 * middle - (radial >= along ? 90 : 0);
        if (((turn + 450) % 360) > 180) turn += 180;
        const text = svg.appendChild(svgElement("text", { transform: `translate(${point(radius, middle).replace(" ", ",")}) rotate(${turn.toFixed(1)})` }));
        text.textContent = cut(names[node], room);
      }
      const hole = svg.appendChild(svgElement("circle", { cx: SIZE / 2, cy: SIZE / 2, r: HOLE - 4 }));
      if (focus) {
        hole.classList.add("up");
        hole.appendChild(svgElement("title")).textContent = `Back to ${names[parents[focus]]}`;
        hole.addEventListener("click", () => zoom(parents[focus], true));
      }
      const lines = [[cut(names[focus], 2 * HOLE - 28), "centre"], [`${grouped(reads[focus])} reads`, "centre figure"], [percent(reads[focus], reads[0]), "centre figure"]];
      lines.forEach(([line, kind], number) => {
        svg.appendChild(svgElement("text", { x: SIZE / 2, y: SIZE / 2 + 18 * (number - 1), class: kind })).textContent = line;
      });
      picture.replaceChildren(svg);
      return small;
    }

    function drawWay() {
      const steps = [];
      for (let node = focus; ; node = parents[node]) {
        steps.unshift(node);
        if (!node) break;
      }
      way.replaceChildren();
      steps.forEach((node, number) => {
        if (number) way.appendChild(htmlElement("span", "", "›")).setAttribute("aria-hidden", "true");
        const button = way.appendChild(htmlElement("button", "", names[node]));
        button.type = "button";
        if (node === focus) button.setAttribute("aria-current", "true");
        button.addEventListener("click", () => zoom(node, true));
      });
    }

    function drawList() {
      const table = htmlElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
      table.setAttribute("aria-label", `Clades of ${names[focus]}`);
      for (const title of ["Clade", "Reads", "Of all"]) head.appendChild(htmlElement("th", "", title)).scope = "col";
      rows.clear();
      for (const node of children[focus]) {
        const row = body.insertRow(), name = row.appendChild(htmlElement("th"));
        name.scope = "row";
        const swatch = svgElement("svg", { class: "swatch", viewBox: "0 0 12 12", "aria-hidden": "true" });
        swatch.appendChild(svgElement("rect", { width: 12, height: 12, rx: 2, fill: shade(palette[colours[node]], depths[node]) }));
        const button = htmlElement("button", "", names[node]);
        button.type = "button";
        if (!children[node].length) button.setAttribute("aria-disabled", "true");
        button.tabIndex = rows.size ? -1 : 0;
        button.addEventListener("click", () => children[node].length ? zoom(node, true) : say(node));
        button.addEventListener("focus", () => light(node, true));
        button.addEventListener("blur", () => light(node, false));
        name.append(swatch, " ", button);
        if (ranks[node]) name.append(" ", htmlElement("small", "", ranks[node]));
        row.insertCell().textContent = grouped(reads[node]);
        row.insertCell().textContent = percent(reads[node], reads[0]);
        follow(row, node);
        rows.set(node, row);
      }
      list.replaceChildren(table);
      list.hidden = !rows.size;
    }

    const say = node => { now.textContent = described(node); };
    function zoom(node, tell) {
      focus = node;
      const small = drawPicture();
      drawWay();
      drawList();
      say(node);
      if (small) now.textContent += `. ${grouped(small)} clades are too small to draw.`;
      if (tell) (list.querySelector("button") || way.querySelector("[aria-current]")).focus({ preventScroll: true });
    }

    side.addEventListener("keydown", event => {
      const buttons = [...list.querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (event.key === "Escape" || event.key === "Backspace" || (at >= 0 && event.key === "ArrowLeft")) {
        if (!focus) return;
        const left = focus;
        zoom(parents[focus], true);
        const button = rows.get(left).querySelector("button");
        list.querySelectorAll("button").forEach(other => { other.tabIndex = -1; });
        button.tabIndex = 0;
        button.focus();
      } else if (at >= 0 && event.key === "ArrowRight") buttons[at].click();
      else if (at >= 0 && to !== undefined && buttons[to]) {
        buttons[at].tabIndex = -1;
        buttons[to].tabIndex = 0;
        buttons[to].focus();
      } else return;
      event.preventDefault();
    });
    zoom(0, false);
  }

  window.mgcSunburst = draw;
  const all = () => document.querySelectorAll(".sunburst").forEach(host => {
    const data = host.querySelector("script.sunburst-data");
    if (data) draw(host, JSON.parse(data.textContent));
  });
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
  else all();
})();
