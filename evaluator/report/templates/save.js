// What leaves the page: the rows of a table behind a figure, tables as CSV. All of it is made of what the page
// holds; without a script the files that lie in it, and beside it, are linked.

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

function showRows(name, rows) {
  const text = held(name);
  if (text === null) return false;
  const [first, last = first] = rows.split("-").map(Number);
  const [columns, ...lines] = linesOf(text);
  const shown = lines.slice(first - 2, last - 1);
  const kept = columns.map((_, place) => place).filter((place) => shown.some((line) => line[place]));
  const head = element("tr", {}, ...kept.map((place) => element("th", { scope: "col" }, columns[place])));
  const body = shown.map((line) => element("tr", {}, ...kept.map((place) => element("td", { className: "text" }, line[place]))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  const title = element("h2", { id: "rows-shown" }, `${name}, row${last > first ? "s" : ""} ${rows.replace("-", " to ")}`);
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
      lines.push([one.title, question, one.repeats, ...columns.map((column) => (column ? Number(column.scores[place].toPrecision(4)) : ""))]);
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
