// What the page can do beyond being read: sort its tables, and show every question of a benchmark. It asks nothing of
// the network, and nothing is lost without it but these two.
"use strict";

const say = (text) => { document.getElementById("said").textContent = text; };
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

// A name that may break after an underscore.
const breakable = (name) => name.split("_").flatMap((part, place) => (place ? ["_", element("wbr"), part] : [part]));

// ---- Sorting: a button in every column's heading; descending, ascending, and as it was.

const UNITS = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 };

function valueOf(cell) {
  if (!cell) return null;
  if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  const text = cell.textContent.trim().replaceAll("−", "-").replaceAll(",", "");
  if (text === "" || text === "–") return null;
  const number = text.match(/^([+-]?\d*\.?\d+(?:e[+-]?\d+)?)\s*([KMBT](?![a-z]))?/i);
  if (!number) return text.toLowerCase();
  return Number(number[1]) * (number[2] ? UNITS[number[2].toUpperCase()] : 1);
}

function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), "en", { numeric: true });
}

// Gives each heading its button; `sort(column, direction)` does the sorting, direction null being the first order.
function withButtons(headings, sort) {
  headings.forEach((heading, column) => {
    if (heading.matches(".how")) return;
    const button = element("button", { type: "button", className: "sort" });
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const first = heading.classList.contains("text") || column === 0 ? "ascending" : "descending";
      const second = first === "ascending" ? "descending" : "ascending";
      const next = now === first ? second : now === second ? null : first;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) heading.setAttribute("aria-sort", next);
      sort(column, next);
      say(next ? `Sorted by ${button.textContent.trim()}, ${next}.` : "In its first order again.");
    });
  });
}

function sortable(table) {
  const bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows].filter((row) => !row.matches(".group")) }));
  if (!table.tHead || !bodies.some(({ rows }) => rows.length > 1)) return;
  withButtons([...table.tHead.rows[0].cells], (column, direction) => {
    for (const { body, rows } of bodies) {
      const sign = direction === "descending" ? -1 : 1;
      const keyed = rows.map((row) => [valueOf(row.cells[column]), row]);
      if (direction) keyed.sort((one, other) => compare(one[0], other[0], sign));
      body.append(...keyed.map(([, row]) => row)); // what is not among them, a group's heading, stays first
    }
  });
}

document.querySelectorAll("table").forEach(sortable);

// Whoever goes by keyboard sees all of what has the focus: a browser leaves what shows a little where it is.
document.addEventListener("focusin", ({ target }) => {
  if (target.matches(".scroll :focus-visible")) target.scrollIntoView({ block: "nearest", inline: "nearest" });
});

// ---- Every question: unpacked when its benchmark is opened, shown a page at a time.

const PAGE = 50;

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const content = await new Response(stream).json();
  const columns = content.columns.map((column, place) => ({
    ...column,
    scores: Float64Array.from(content.scores[place], (letter) => content.levels[letter.charCodeAt(0) - 35]),
  }));
  return { ...content, columns };
}

function scoreText(score, repeats) {
  const right = score * repeats;
  // Scores came rounded to six digits.
  return Math.abs(right - Math.round(right)) < 1e-6 * repeats ? `${Math.round(right)}/${repeats}` : fixed(score, 2);
}

async function explore(sheet) {
  const packed = sheet.querySelector("script[data-packed]");
  if (!packed || sheet.dataset.live || !("DecompressionStream" in window)) return;
  sheet.dataset.live = "1";
  const data = await unpack(packed.textContent.trim());
  const symbols = packed.dataset.symbols;
  const table = sheet.querySelector("table");
  const answered = new Map([...sheet.querySelectorAll("[data-question]")].map((one) => [one.dataset.question, one.id]));
  const state = { view: 0, find: "", page: 0, order: [] };

  const menu = element("select", {}, ...data.views.map((view, place) => element("option", { value: place }, view.label)));
  const find = element("input", { type: "search", size: 14, autocomplete: "off" });
  const status = element("span", { className: "where" });
  const back = element("button", { type: "button" }, "Previous");
  const on = element("button", { type: "button" }, "Next");
  const tools = element("div", { className: "tools" },
    ...(data.views.length > 1 ? [element("label", {}, "Checkpoints ", menu)] : []),
    element("label", {}, "Find a question ", find), element("span", { className: "pager" }, back, on, status));
  sheet.querySelector(".scroll").before(tools);

  const columns = () => data.views[state.view].columns.map((place) => data.columns[place]);
  // As at first: of the runs' columns, or of the first rivals where there are no runs.
  const rivals = () => {
    const runs = columns().filter((one) => one.number);
    return runs.length ? runs : data.rivals.map((place) => data.columns[place]);
  };
  const spreads = () => data.questions.map((_, question) => {
    const values = rivals().map((one) => one.scores[question]);
    return Math.max(...values) - Math.min(...values);
  });
  // Among equals first those on which more of the rivals part, by far less than any spread.
  const parted = (spread) => spread.map((width, question) => {
    const values = rivals().map((one) => one.scores[question]);
    const mean = values.reduce((sum, one) => sum + one, 0) / values.length;
    return width + 1e-6 * values.reduce((sum, one) => sum + (one - mean) ** 2, 0);
  });

  function sort(column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const spread = spreads();
    const keys = !direction || column === columns().length + 1 ? parted(spread)
      : column === 0 ? data.questions : columns()[column - 1].scores;
    state.order = data.questions.map((_, question) => question);
    state.order.sort((one, other) => compare(keys[one], keys[other], sign));
    state.page = 0;
    fill(spread);
  }

  function fill(spread = spreads()) {
    const wanted = state.find.toLowerCase();
    const found = state.order.filter((question) => data.questions[question].toLowerCase().includes(wanted));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const begin = state.page * PAGE;
    const rows = found.slice(begin, begin + PAGE).map((question) => {
      const name = data.questions[question];
      const id = answered.get(name);
      const head = element("th", { scope: "row" }, id ? element("a", { href: `#${id}` }, name) : name);
      const cells = columns().map((column) => {
        const cell = element("td", { className: "share" }, scoreText(column.scores[question], data.repeats));
        cell.style.setProperty("--score", column.scores[question]);
        return cell;
      });
      return element("tr", {}, head, ...cells, element("td", {}, fixed(spread[question], 2)));
    });
    table.tBodies[0].replaceChildren(...rows);
    status.textContent = found.length
      ? `${(begin + 1).toLocaleString("en")}–${(begin + rows.length).toLocaleString("en")} of ${found.length.toLocaleString("en")}`
      : "no such question";
    back.disabled = state.page === 0;
    on.disabled = state.page === pages - 1;
  }

  function show() {
    const cells = columns().map((column) => {
      const heading = element("th", { scope: "col" });
      if (column.number) heading.append(element("span", { className: `blend${column.number}`, ariaHidden: "true" }, symbols[column.number - 1]), " ");
      heading.append(...breakable(column.name), ...(column.at ? [element("small", {}, ` ${column.at}`)] : []));
      return heading;
    });
    const row = element("tr", {}, element("th", { scope: "col" }, "Question"), ...cells, element("th", { scope: "col" }, "Spread"));
    table.tHead.replaceChildren(row);
    withButtons([...row.cells], sort);
    sort(0, null);
  }

  menu.addEventListener("change", () => { state.view = Number(menu.value); show(); say(menu.selectedOptions[0].text); });
  find.addEventListener("input", () => { state.find = find.value; state.page = 0; fill(); say(status.textContent); });
  back.addEventListener("click", () => { state.page -= 1; fill(); say(status.textContent); });
  on.addEventListener("click", () => { state.page += 1; fill(); say(status.textContent); });
  show();
}

for (const sheet of document.querySelectorAll("details.sheet")) {
  sheet.addEventListener("toggle", () => { if (sheet.open) explore(sheet); });
}

// ---- What is folded away: opened by a link to it, and on paper.

function unfold() {
  for (let one = document.getElementById(location.hash.slice(1)); one; one = one.parentElement) {
    if (one.tagName === "DETAILS") one.open = true;
  }
}
addEventListener("hashchange", unfold);
unfold();

// Answers, manifests and what was only explored stay off paper unless they are asked for.
let folded = [];
addEventListener("beforeprint", () => {
  const all = document.getElementById("on-paper")?.checked;
  folded = [...document.querySelectorAll("details:not([open])")].filter((one) => all || !one.closest(".sheet, .manifest, .explored"));
  folded.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => { folded.forEach((one) => { one.open = false; }); });
