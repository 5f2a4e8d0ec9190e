// ---- Points: a figure as a file, as it is shown, in the colours of light paper, with its legend.

function boardPicture(box, figure) {
  const colors = JSON.parse(document.getElementById("paper").textContent);
  const shown = [...figure.querySelectorAll(":scope > svg")].find((one) => getComputedStyle(one).display !== "none");
  const { width, height } = shown.viewBox.baseVal;
  const entries = [...box.querySelectorAll(".legend li")].map((one) => [one.dataset.words, one.querySelector("svg")]);
  const wide = 60 + 6.6 * Math.max(...entries.map(([words]) => words.length));
  const many = Math.max(1, Math.floor(width / wide));
  const legend = entries.map(([words, sample], number) => {
    const [x, y] = [14 + (number % many) * wide, height + 12 + 22 * Math.floor(number / many)];
    const { x: left, width: room } = sample.viewBox.baseVal;
    const middle = sample.viewBox.baseVal.y + sample.viewBox.baseVal.height / 2;
    return `<g style="${sample.getAttribute("style")}" transform="translate(${x + 18 - left - room / 2} ${y - middle})">${sample.innerHTML}</g>`
      + `<text x="${x + 44}" y="${y + 4}">${clean(words)}</text>`;
  });
  const tall = height + 22 * Math.ceil(entries.length / many) + 8;
  const style = "text{font:12px sans-serif;fill:var(--ink)}.title{font-size:13.5px;font-weight:bold}.marks text,.margin"
    + "{fill:var(--muted);font-size:11.5px}.halo{paint-order:stroke;stroke:var(--card);stroke-width:3px}.grid{fill:none;stroke:var(--rule)}";
  const text = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${tall}" width="${width}" height="${tall}"><style>${style}</style>`
    + `<rect width="100%" height="100%" fill="var(--card)"/>${shown.innerHTML}${legend.join("")}</svg>`;
  return { text: text.replace(/var\(--([\w-]+)\)/g, (_, name) => colors[name]), width, height: tall };
}

for (const box of document.querySelectorAll("[data-board]")) {
  for (const figure of box.querySelectorAll("figure")) {
    const title = figure.dataset.scatter;
    figure.querySelector("figcaption").prepend(saveMenu(title, title, () => boardPicture(box, figure), () => held("board.csv")));
  }
}
