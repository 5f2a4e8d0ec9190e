// What leaves the page: the rows of a table behind a figure, tables as CSV, drawings as SVG, PNG and CSV. All of it is
// made of what the page holds; without a script the files that lie in it, and beside it, are linked.

function lettersOf(bytes) {
  return new TextDecoder().decode(Uint8Array.from(bytes, (one) => one.charCodeAt(0)));
}

// Lines of a CSV, each a list of cells.
function linesOf(text) {
  const lines = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
    lines.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\n") lines.push([]);
    if (end === "") break;
  }
  return lines;
}

function held(name) {
  const link = [...document.querySelectorAll("a[download]")].find((one) => one.download === name);
  return link ? lettersOf(atob(link.href.split(",")[1])) : null;
}

function save(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// ---- The rows behind a figure.

// The links of where a figure is from, as the page's other ones (`sources` of macros.html.j2).
function sourcesOf([rows, anchor] = ["", ""], of) {
  const links = [];
  if (rows) links.push(element("a", { className: "rows", href: rows, ariaLabel: `csv: the rows of ${rows.split("#")[0]} with the figures of ${of}` }, "csv"));
  if (anchor) links.push(element("a", { href: `#${anchor}`, ariaLabel: `how: the command behind the figures of ${of}` }, "how"));
  return links.flatMap((link) => [link, " "]);
}

function showRows(name, rows) {
  const text = held(name);
  if (text === null) return false;
  const [columns, ...lines] = linesOf(text);
  const shown = rows.split(";").flatMap((span) => {
    const [first, last = first] = span.split("-").map(Number);
    return lines.slice(first - 2, last - 1);
  });
  const kept = columns.map((_, place) => place).filter((place) => shown.some((line) => line[place]));
  const head = element("tr", {}, ...kept.map((place) => element("th", { scope: "col", className: "text" }, columns[place])));
  const body = shown.map((line) => element("tr", {}, ...kept.map((place) => element("td", { className: "text" }, line[place]))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  const title = element("h2", { id: "rows-shown" }, `${name}, row${shown.length > 1 ? "s" : ""} ${rows.replaceAll("-", " to ").replaceAll(";", ", ")}`);
  const box = element("div", { className: "scroll", tabIndex: 0, role: "group" }, table);
  box.setAttribute("aria-labelledby", "rows-shown");
  const form = element("form", { method: "dialog" }, element("button", {}, "Close"));
  const dialog = element("dialog", {}, title, form, box);
  dialog.setAttribute("aria-labelledby", "rows-shown");
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return true;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a.rows");
  if (link && showRows(...link.getAttribute("href").split("#row="))) event.preventDefault();
});

// ---- Every question as a CSV: from what the page holds packed.

async function questions() {
  const sheets = [...document.querySelectorAll("details.sheet")];
  const all = await Promise.all(sheets.map(async (sheet) => ({
    title: sheet.querySelector("h3").textContent, ...(await unpack(sheet.querySelector("script[data-packed]").textContent.trim())),
  })));
  const names = [...new Set(all.flatMap((one) => one.columns.map(titleOf)))];
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [["benchmark", "question", "repeats", ...names]];
  for (const one of all) {
    const columns = names.map((name) => one.columns.find((column) => titleOf(column) === name));
    one.questions.forEach((question, place) => {
      lines.push([one.title, question, one.repeats, ...columns.map((column) => (column ? Number(column.scores[place].toPrecision(6)) : ""))]);
    });
  }
  return lines.map((line) => line.map((cell) => quoted(String(cell))).join(",")).join("\n") + "\n";
}

const titleOf = (column) => `${column.name} ${column.at}`.trim();

for (const link of document.querySelectorAll("a[data-questions]")) {
  if (!("DecompressionStream" in window) || !document.querySelector("details.sheet")) continue;
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    save("questions.csv", await questions(), "text/csv");
  });
}

// ---- A figure as a file: what it shows, in the colours of light paper, with its legend.

function pictureOf(one, data) {
  const colors = data.paper;
  const entries = one.panel.curves.map((curve) => [curve.label, data.looks[curve.label]]);
  const box = one.plot.firstChild.viewBox.baseVal;
  const wide = 60 + 7 * Math.max(...entries.map(([label]) => label.length), 8);
  const many = Math.max(1, Math.floor(box.width / wide));
  const height = box.height + 20 * Math.ceil(entries.length / many) + 6;
  const legend = entries.map(([label, look], number) => {
    const [x, y] = [14 + (number % many) * wide, box.height + 10 + 20 * Math.floor(number / many)];
    const dash = look.dash.length ? ` stroke-dasharray="${look.dash.join(" ")}"` : "";
    const line = look.hollow ? "" : `<path d="M0 0H36" stroke="currentColor" stroke-width="2"${dash}/>`;
    return `<g transform="translate(${x} ${y})" style="color:var(--${look.color})">${line}`
      + `<g transform="translate(18 0)" fill="currentColor"><path d="${look.shape}"${look.hollow ?? ""}/></g>`
      + `<text x="44" y="4">${clean(label)}</text></g>`;
  });
  const style = "text{font:12px sans-serif;fill:var(--ink)}.title{font-size:13.5px;font-weight:bold}.marks text,.margin"
    + "{fill:var(--muted);font-size:11.5px}.halo{paint-order:stroke;stroke:var(--card);stroke-width:3px}.grid{fill:none;"
    + "stroke:var(--rule)}.zero,.rule{fill:none;stroke:var(--muted)}.curve{fill:currentColor}.band{fill-opacity:.1}.cursor{display:none}";
  const inner = one.drawn.text.replace(/^<svg[^>]*>/, "").replace(/<\/svg>$/, "");
  const text = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${box.width} ${height}" width="${box.width}" height="${height}">`
    + `<style>${style}</style><rect width="100%" height="100%" fill="var(--card)"/>${inner}${legend.join("")}</svg>`;
  return { text: text.replace(/var\(--([\w-]+)\)/g, (_, name) => colors[name]), width: box.width, height };
}

function tableOf(one) {
  const quoted = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  const lines = one.panel.curves.flatMap((curve) => curve.points.map(([tokens, value, error]) => (
    [quoted(one.panel.title), quoted(curve.label), tokens, value, error || ""].join(","))));
  return `figure,curve,tokens,value,stderr\n${lines.join("\n")}\n`;
}

// A menu that saves a figure: `picture` gives its SVG with its size, `table` its values as CSV.
function saveMenu(title, label, picture, table) {
  const name = () => (typeof title === "function" ? title() : title).toLowerCase().replace(/[^a-z0-9]+/g, "_");
  const offer = (content, ending, type) => {
    const file = `${name()}.${ending}`;
    save(file, content, type);
    say(`${file} saved.`);
  };
  const makes = {
    SVG: () => offer(picture().text, "svg", "image/svg+xml"),
    PNG: async () => {
      const { text, width, height } = picture();
      const image = element("img", { src: `data:image/svg+xml,${encodeURIComponent(text)}` });
      await image.decode();
      const canvas = element("canvas", { width: 2 * width, height: 2 * height });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => offer(blob, "png", "image/png"), "image/png");
    },
    CSV: () => offer(table(), "csv", "text/csv"),
  };
  const summary = element("summary", {}, "Save");
  if (label) summary.setAttribute("aria-label", `Save ${label}`);
  const buttons = Object.entries(makes).map(([kind, make]) => {
    const button = element("button", { type: "button" }, kind);
    button.addEventListener("click", make);
    return button;
  });
  return element("details", { className: "save tools" }, summary, ...buttons);
}

function saver(one, data) {
  return saveMenu(() => one.panel.title, "", () => pictureOf(one, data), () => tableOf(one));
}
