"use strict";

// -- tables that sort ---------------------------------------------------------------------------------------------

// by the value that a cell carries; behind all numbers come texts, then cells that say why they have no figure
function sortable(table) {
  const body = table.tBodies[0], original = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { null: "ascending", ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      heads.forEach(h => h.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const keyed = original.map(row => {
        const cell = row.cells[column], { value } = cell.dataset;
        return { row, text: cell.textContent, value: Number(value), rank: cell.classList.contains("none") ? 2 : value === undefined ? 1 : 0 };
      });
      const sign = next === "descending" ? -1 : 1;
      if (next) keyed.sort((a, b) => a.rank - b.rank || sign * (a.rank ? a.text.localeCompare(b.text) : a.value - b.value));
      body.append(...keyed.map(k => k.row));
    });
  });
}

for (const table of document.querySelectorAll("main table")) {
  const frame = document.createElement("div");
  frame.className = "scroll";
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", "table");
  table.replaceWith(frame);
  frame.append(table);
  if (table.closest("article.table")) sortable(table);
}

// -- sentences ----------------------------------------------------------------------------------------------------

const splits = JSON.parse(document.getElementById("data").textContent);
const [split, system, kind, query, arcs, count, list, more] = ["split", "system", "kind", "query", "arcs", "count", "list", "more"].map(id => document.getElementById(id));
// sentences drawn at once; claims of a system shown of each: an untrained one may claim thousands
const STEP = 20, MOST = 200, GOLD = 2, FIRST = 3, RIGHT = "right";
let shown = [], drawn = 0;

function element(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}

const option = (value, text) => { const made = element("option", "", text); made.value = value; return made; };
const data = () => splits[split.value];
const systems = () => system.value === "" ? data().systems.map((_, i) => i) : [Number(system.value)];

function fillSystems() {
  system.replaceChildren(option("", "all systems"), ...data().systems.map((name, i) => option(i, name)));
}

// how many errors of each kind the chosen systems make
function fillKinds() {
  const { kinds, entity_kinds, sentences } = data(), chosen = kind.value, counts = kinds.map(() => 0);
  for (const s of sentences) for (const i of systems()) for (const [k] of s[FIRST + i][2]) counts[k]++;
  const group = (label, from, to) => { const made = element("optgroup"); made.label = label; for (let k = from; k < to; k++) made.append(option(k, `${kinds[k]} (${counts[k].toLocaleString("en")})`)); return made; };
  kind.replaceChildren(option("", "any"), option(RIGHT, "no error at all"), group("Entities", 0, entity_kinds), group("Triples", entity_kinds, kinds.length));
  kind.value = chosen;
}

function matches(sentence, words) {
  if (words.length) {
    sentence.text ??= `${sentence[0]} ${sentence[1].join(" ")}`.toLowerCase();
    if (!words.every(word => sentence.text.includes(word))) return false;
  }
  if (kind.value === "") return true;
  const errors = systems().map(i => sentence[FIRST + i][2]);
  return kind.value === RIGHT ? errors.every(e => !e.length) : errors.some(e => e.some(([k]) => k === Number(kind.value)));
}

function update() {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = data().sentences.filter(s => matches(s, words));
  drawn = 0;
  list.replaceChildren();
  count.textContent = `${shown.length.toLocaleString("en")} of ${data().sentences.length.toLocaleString("en")} sentences`;
  draw();
}

function draw() {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  const cards = shown.slice(drawn, drawn + STEP).map(s => card(s, words, arcs.checked));
  list.append(...cards);
  if (arcs.checked) for (const line of cards.flatMap(made => [...made.querySelectorAll(".text")])) line.draw();
  drawn = Math.min(drawn + STEP, shown.length);
  more.hidden = drawn >= shown.length;
}

function highlighted(word, words) {
  return words.some(w => word.toLowerCase().includes(w)) ? element("mark", "", word) : word;
}

// the words, entities underlined: of those that share words the longest; all stand in the table below. Once the line is on
// the page, its `draw` draws the triples, of which those in these places are wrong
function drawText(tokens, [entities, relations], words, wrong = new Set()) {
  const line = element("p", "text"), owner = [], inside = new Set(relations.flatMap(([, h, t]) => [h, t]));
  [...entities.keys()].sort((a, b) => (entities[b][2] - entities[b][1]) - (entities[a][2] - entities[a][1])).forEach(i => {
    const [, start, end] = entities[i];
    if (owner.slice(start, end).every(o => o === undefined)) for (let w = start; w < end; w++) owner[w] = i;
  });
  for (let w = 0; w < tokens.length;) {
    const entity = owner[w], word = () => element("span", "word", highlighted(tokens[w++], words));
    if (entity === undefined) { line.append(word(), " "); continue; }
    const span = element("span", inside.has(entity) ? "entity" : "entity apart"), [type, , end] = entities[entity];
    while (w < end) span.append(word(), w < end ? " " : "");
    span.append(element("sub", "", data().entity_types[type]));
    line.append(span, " ");
  }
  line.draw = () => drawTriples(line, entities, relations, wrong);
  return line;
}

function shape(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// above the words, of each triple a bracket from the head to an arrow at the tail, the shorter ones below
function drawTriples(line, entities, relations, wrong) {
  const LEVEL = 20, ARROW = 6, GAP = 7, CHARACTER = 7, words = line.querySelectorAll(".word"), ends = new Map(), levels = [];
  const middle = ([, start, end]) => (words[start].offsetLeft + words[end - 1].offsetLeft + words[end - 1].offsetWidth) / 2;
  const brackets = relations.slice(0, MOST).map(([type, ...pair], n) => ({ type: data().relation_types[type], state: wrong.has(n) ? "triple wrong" : "triple", pair, x: pair.map(e => middle(entities[e])) }));
  if (!brackets.length) return;
  // ends at one entity stand side by side, in the order of where the brackets come from
  for (const { pair, x } of brackets) pair.forEach((e, side) => ends.set(e, [...ends.get(e) ?? [], { x, side, from: x[1 - side] }]));
  for (const of of ends.values()) of.sort((a, b) => a.from - b.from).forEach((end, n) => { end.x[end.side] += (n - (of.length - 1) / 2) * GAP; });
  for (const bracket of brackets) {
    const [left, right] = [...bracket.x].sort((a, b) => a - b), half = bracket.type.length * CHARACTER / 2;
    bracket.centre = Math.max(half, (left + right) / 2);
    Object.assign(bracket, { width: right - left, from: Math.min(left, bracket.centre - half) - GAP, to: Math.max(right, bracket.centre + half) + GAP });
  }
  for (const bracket of brackets.sort((a, b) => a.width - b.width)) {
    bracket.level = levels.findIndex(of => of.every(o => o.to <= bracket.from || bracket.to <= o.from));
    if (bracket.level < 0) bracket.level = levels.push([]) - 1;
    levels[bracket.level].push(bracket);
  }
  const height = (levels.length + .75) * LEVEL, width = Math.max(line.scrollWidth, ...brackets.map(b => b.to));
  line.style.paddingTop = `${height}px`;
  line.prepend(shape("svg", { width, height, "aria-hidden": "true" }, ...brackets.map(({ x: [head, tail], level, type, state, centre }) => {
    const y = height - (level + 1) * LEVEL, floor = height - ARROW;
    return shape("g", { class: state },
      shape("path", { d: `M${head},${height}V${y}H${tail}V${floor}` }),
      shape("path", { class: "arrow", d: `M${tail - ARROW / 2},${floor}h${ARROW}l${-ARROW / 2},${ARROW}z` }),
      shape("text", { x: centre, y: y + 4 }, type));
  })));
}

function card(sentence, words, withTriples) {
  const [id, tokens, gold] = sentence, lines = [drawText(tokens, gold, words)], table = element("table"), body = table.createTBody();
  const row = (classes, name, entities, triples) => body.append(element("tr", classes, element("td", "", name), element("td", "", ...entities), element("td", "", ...triples)));
  row("gold", "Gold", gold[0].map(e => mark("", entityText(tokens, e))), gold[1].map(r => mark("", relationText(tokens, gold[0], r))));
  for (const i of systems()) {
    const [entities, relations, errors] = sentence[FIRST + i], first = data().entity_kinds;
    const side = (of, items, golden, text, goldText) => {
      const ours = errors.filter(([k]) => of(k)), wrong = new Map(ours.map(([k, , p]) => [p, k]));
      const missed = ours.filter(([, , p]) => p < 0), hidden = Math.max(0, items.length - MOST) + Math.max(0, missed.length - MOST);
      return [
        ...items.slice(0, MOST).map((item, n) => wrong.has(n) ? mark("wrong", text(item), data().kinds[wrong.get(n)]) : mark("right", text(item))),
        ...missed.slice(0, MOST).map(([k, g]) => mark("missed", goldText(golden[g]), data().kinds[k])),
        ...hidden ? [` and ${hidden.toLocaleString("en")} more`] : [],
      ];
    };
    row("", data().systems[i],
      side(k => k < first, entities, gold[0], e => entityText(tokens, e), e => entityText(tokens, e)),
      side(k => k >= first, relations, gold[1], r => relationText(tokens, entities, r), r => relationText(tokens, gold[0], r)));
  }
  if (withTriples && system.value !== "") {
    const [chosen] = systems(), predicted = sentence[FIRST + chosen];
    const wrong = new Set(predicted[2].filter(([k]) => k >= data().entity_kinds).map(([, , p]) => p));
    lines.push(element("p", "id", data().systems[chosen]), drawText(tokens, predicted, words, wrong));
  }
  return element("article", "sentence", element("p", "id", `${id}, ${tokens.length} words`), element("div", withTriples ? "drawn" : "", ...lines), table);
}

const SIGNS = { right: "✓ ", wrong: "✗ ", missed: "– ", "": "" };

function mark(state, parts, error) {
  const made = element("span", `mark ${state}`, SIGNS[state], ...parts);
  if (error) made.append(" ", element("b", "", error));
  return made;
}

const entityText = (tokens, [type, start, end]) => [`${tokens.slice(start, end).join(" ")} `, element("small", "", data().entity_types[type])];
const relationText = (tokens, entities, [type, head, tail]) => [...entityText(tokens, entities[head]), ` → ${data().relation_types[type]} → `, ...entityText(tokens, entities[tail])];

split.append(...splits.map((s, i) => option(i, s.title)));
fillSystems();
fillKinds();
update();

split.addEventListener("change", () => { fillSystems(); fillKinds(); update(); });
system.addEventListener("change", () => { fillKinds(); update(); });
kind.addEventListener("change", update);
arcs.addEventListener("change", update);
let waiting;
query.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 120); });
const form = document.getElementById("filters");
form.addEventListener("submit", event => { event.preventDefault(); update(); });
form.addEventListener("reset", () => setTimeout(() => { fillSystems(); fillKinds(); update(); }));
more.addEventListener("click", () => { const next = drawn; draw(); const row = list.children[next]; if (row) { row.tabIndex = -1; row.focus({ preventScroll: true }); } });
document.addEventListener("keydown", event => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); query.focus(); query.scrollIntoView({ block: "nearest" }); }
});
