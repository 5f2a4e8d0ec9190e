// What the tests ask of a page, put into it before they do.

// Texts that stand out too little from what is behind them (WCAG 2, 1.4.3: 4.5 to 1, large ones 3 to 1, and 3 to 1 what
// is drawn, as the blends' symbols are: 1.4.11).
function contrasts() {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const found = parse(getComputedStyle(one).backgroundColor);
      if (found.a === 1) return found.rgb;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const pale = [];
  let texts = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const one = walker.currentNode.parentElement;
    if (!text || !one.checkVisibility() || one.closest("script, style, .unseen, :disabled")) continue;
    texts += 1;
    const style = getComputedStyle(one);
    const ink = parse(one instanceof SVGElement ? style.fill : style.color);
    const [high, low] = [light(ink.rgb), light(behind(one))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) || one.closest("[aria-hidden=true]");
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) pale.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return { texts, pale };
}

// What a reader goes by who does not see the page.
function outline() {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const said = (one) => one.outerHTML.slice(0, 120);
  const ids = all("[id]").map((one) => one.id);
  const named = (one) => one.textContent.trim() || one.getAttribute("aria-label") || one.closest("label");
  const target = (one) => one.getAttribute("aria-labelledby") ?? one.getAttribute("href").slice(1);
  return {
    lang: document.documentElement.lang,
    title: document.title,
    levels: all("h1, h2, h3, h4").map((one) => Number(one.tagName[1])),
    headings_without_scope: all("th:not([scope])").map(said),
    drawings_without_words: all("img:not([alt]), svg:not([role=img][aria-label], [aria-hidden=true])").map(said),
    unnamed: all("a, button, select, input, summary").filter((one) => !named(one)).map(said),
    // What is said must hold what is seen (WCAG 2.5.3), and no two landmarks may be called alike.
    said_otherwise: all("a[aria-label], button[aria-label]").filter((one) => !one.getAttribute("aria-label").includes(one.textContent.trim())).map(said),
    regions_twice: (() => {
      const names = all("section").map((one) => one.getAttribute("aria-labelledby"));
      return names.filter((name, place) => !name || names.indexOf(name) !== place);
    })(),
    scrolling_unreachable: all(".scroll, pre").filter((one) => one.tabIndex !== 0).map(said),
    hidden_reachable: all("[aria-hidden=true] :is(a, button, input, select, [tabindex])").map(said),
    twice: ids.filter((id, place) => ids.indexOf(id) !== place),
    dead_links: all("a[href^='#'], [aria-labelledby]").map(target).filter((id) => !document.getElementById(id)),
    landmarks: Object.fromEntries(["header", "nav", "main"].map((name) => [name, all(name).length])),
  };
}

// Tables and figures that do not say where each of their rows is from, by both links; and links to rows that no file has.
function unsourced() {
  const all = (one, selector) => [...one.querySelectorAll(selector)];
  const links = (one) => all(one, ".how a").map((link) => link.textContent).join(" ");
  const lines = Object.fromEntries(all(document, "a[download]").map((link) => [link.download, atob(link.href.split(",")[1]).split("\n").length - 1]));
  const said = (box) => box.getAttribute("aria-labelledby");
  // Of questions and of commands there are no rows but in themselves, and a statement has none.
  const boxes = all(document, ".scroll").filter((box) => !box.closest(".sheet") && !["steps", "reproduce", "claims"].includes(said(box)));
  const empty = (row) => row.querySelector("td[colspan]") || all(row, "td:not(.how)").every((cell) => ["", "–"].includes(cell.textContent.trim()));
  const bare = boxes.filter((box) => all(box, "tbody tr:not(.group)").some((row) => !empty(row) && links(row) !== "csv how")).map(said);
  const dead = all(document, "a.rows").filter((link) => {
    const [name, rows] = link.getAttribute("href").split("#row=");
    return rows.split(/[;-]/).some((row) => !(row >= 2 && row <= lines[name]));
  });
  return [...bare, ...all(document, "figure, .tiles > div").filter((one) => links(one) !== "csv how").map((one) => one.textContent.slice(0, 40)),
    ...dead.map((link) => link.outerHTML)];
}

// What the keyboard is to reach, in the page's order.
function controls() {
  return [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex]")]
    .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility());
}

// Where the keyboard is, its place among the controls, and what is amiss with how that is shown: no outline, or it is
// outside of the window, beyond the edge of a box that scrolls, or behind headings that stay.
function focused() {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  const { left, top, width, height } = one.getBoundingClientRect();
  const seen = document.elementFromPoint(left + Math.min(20, width / 2), Math.min(top + Math.min(12, height / 2), innerHeight - 1));
  const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && one.contains(seen);
  const said = `${one.tagName} ${(one.getAttribute("aria-label") ?? one.textContent).trim().slice(0, 40)}`;
  return { place: window.order.indexOf(one), said, amiss: shown ? [] : [said] };
}

// What axe-core finds, with its own rules but for those that `rules` changes.
function findings(rules) {
  return axe.run({ rules, resultTypes: ["violations"], selectors: false, preload: false }).then((found) => (
    found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 160)}`))));
}

// Every row of a table's bodies, as the texts of its cells.
function rows(selector) {
  const texts = (row) => [...row.cells].map((cell) => cell.textContent.trim());
  return [...document.querySelectorAll(`${selector} tbody tr`)].map(texts);
}

function openPart(id) {
  for (let one = document.getElementById(id); one; one = one.parentElement) {
    if (one.tagName === "DETAILS") one.open = true;
  }
}

function unfold() {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
}

// What sticks out of a window of that width or of its drawing, and of tables that scroll the ones whose headings or first
// column do not stay.
function strays(width) {
  const beyond = (one) => { const box = one.getBoundingClientRect(); return box.width && (box.right > width + 0.5 || box.left < -0.5); };
  const found = [...document.querySelectorAll("body *")]
    .filter((one) => one.checkVisibility() && beyond(one) && !one.closest(".scroll, pre, .unseen, .skip"))
    .map((one) => `${one.outerHTML.slice(0, 80)} sticks out`);
  for (const drawing of document.querySelectorAll("figure svg")) {
    const { left, right } = drawing.getBoundingClientRect();
    const past = [...drawing.querySelectorAll("text")].filter((one) => {
      const box = one.getBoundingClientRect();
      return box.left < left - 1 || box.right > right + 1;
    });
    found.push(...past.map((one) => `${one.textContent} leaves its drawing`));
  }
  for (const box of document.querySelectorAll(".scroll")) {
    const { left, right } = box.getBoundingClientRect();
    if (!box.checkVisibility()) continue;
    const name = box.getAttribute("aria-labelledby");
    if (left < -1 || right > width + 1) found.push(`${name} sticks out`);
    const table = box.querySelector("table:not(.stack)");
    if (!table || box.scrollWidth <= box.clientWidth) continue;
    box.scrollLeft = 120;
    const first = table.querySelector("tbody tr:not(.group) th:first-child");
    if (first && first.getBoundingClientRect().left < box.getBoundingClientRect().left - 1) found.push(`${name} loses its first column`);
    box.scrollLeft = 0;
  }
  return found;
}

// Tables and drawings that go beyond the page's right edge, by their sections.
function cut() {
  const edge = document.body.getBoundingClientRect().right + 1;
  return [...document.querySelectorAll("table, svg, pre")]
    .filter((one) => one.getBoundingClientRect().right > edge)
    .map((one) => one.closest("section").getAttribute("aria-labelledby"));
}

// What stays folded on paper, but for what is left out there.
function countFoldedBeforePrint() {
  addEventListener("beforeprint", () => {
    const folded = [...document.querySelectorAll("details:not([open])")];
    window.folded = folded.filter((one) => !one.closest(".sheet, .manifest, .explored")).length;
  });
}
