
// ---- Curves: read by pointing or with the arrow keys, compared at a milestone and with a baseline, zoomed, saved. What
// is drawn at first is what the page came with (`evaluator.report.charts`), at the width there is.

const clean = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const place = (value) => String(Math.floor(10 * value + 0.5) / 10);
const signed = (value, digits) => `${value > 0 && Number(value.toFixed(digits)) ? "+" : ""}${(value + 0).toFixed(digits)}`
  .replace(/^-(0(\.0+)?)$/, "$1").replace("-", "−");

function markText(tokens, data) {
  const title = data.titles[tokens];
  if (title) return title;
  const most = data.tokens.at(-1);
  const [unit, size] = [["B", 1e9], ["M", 1e6], ["K", 1e3], ["", 1]].find(([, one]) => most >= 0.1 * one);
  return Number((tokens / size).toPrecision(2)) + unit;
}

function valueText(value, error, panel) {
  if (panel.unit === "nats") return Number(value.toPrecision(3)) + (error ? ` ± ${Number(error.toPrecision(2))}` : "");
  const text = panel.signed ? signed(value, 1).replace(/^0\.0$/, "+0.0") : value.toFixed(1);
  return error ? `${text} ± ${error.toFixed(1)}` : text;
}

// The panel's curves less the one, or the line, that is called `baseline`.
function differenceOf(panel, baseline) {
  const line = panel.lines.find((one) => one[0] === baseline);
  const base = panel.curves.find((one) => one.label === baseline);
  const paired = (label) => new Map(panel.paired.filter(([one, other]) =>
    (one === label && other === baseline) || (one === baseline && other === label)).flatMap((one) => one[2]));
  const curves = panel.curves.filter((curve) => curve !== base).map((curve) => {
    const known = paired(curve.label);
    const points = curve.points.flatMap(([tokens, mean, error]) => {
      const other = line ? [line[1], line[2]] : base?.points.find((one) => one[0] === tokens)?.slice(1);
      return other ? [[tokens, mean - other[0], known.get(tokens) ?? Math.hypot(error, other[1])]] : [];
    });
    return { label: curve.label, points };
  });
  return { ...panel, title: `${panel.title} less ${baseline}`, curves, lines: [], foot: "", paired: [], signed: true,
    error: panel.error === null ? null : panel.error * Math.sqrt(line ? 1 : 2) };
}

// What is drawn of a panel: the curves that are shown, from one milestone to another.
function viewOf(panel, state) {
  const curves = panel.curves.filter((curve) => !state.hidden.has(curve.label)).map((curve) => (
    { ...curve, points: curve.points.filter(([tokens]) => state.from <= tokens && tokens <= state.to) }));
  return { ...panel, curves: curves.filter((curve) => curve.points.length),
    rules: panel.rules.filter((tokens) => state.from <= tokens && tokens <= state.to) };
}

function rangeOf(panel) {
  const points = panel.curves.flatMap((curve) => curve.points);
  if (panel.unit === "nats") {
    const [low, high] = [Math.min(...points.map((one) => one[1])), Math.max(...points.map((one) => one[1]))];
    return low < high ? [low, high] : [low / 1.1, high * 1.1];
  }
  let [low, high] = [Math.min(...points.map((one) => one[1] - one[2])), Math.max(...points.map((one) => one[1] + one[2]))];
  if (panel.signed) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  if (panel.error !== null) {
    const middle = middleOf(panel);
    [low, high] = [Math.min(low, middle - panel.error), Math.max(high, middle + panel.error)];
  }
  return high - low < 1 ? [(low + high) / 2 - 0.5, (low + high) / 2 + 0.5] : [low, high];
}

const middleOf = (panel) => panel.curves.reduce((sum, one) => sum + one.points.at(-1)[1], 0) / panel.curves.length;

function ticksOf(low, high, most = 5) {
  for (let exponent = -4; exponent < 6; exponent += 1) {
    for (const digit of [1, 2, 5]) {
      const step = digit * 10 ** exponent;
      const [first, last] = [Math.ceil(low / step), Math.floor(high / step)];
      if (last - first < most) return Array.from({ length: last - first + 1 }, (_, one) => (first + one) * step);
    }
  }
  return [low, high];
}

function logTicksOf(low, high, most = 6) {
  let found = [];
  for (const digits of [[1, 2, 3, 5, 7], [1, 2, 5], [1]]) {
    found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      found.push(...digits.map((digit) => digit * 10 ** power).filter((one) => low <= one && one <= high));
    }
    if (found.length <= most) break;
  }
  return found;
}

function scaleOf([low, high], [begin, end], logarithmic) {
  const on = logarithmic ? Math.log : Number;
  return (value) => begin + ((on(value) - on(low)) / (on(high) - on(low))) * (end - begin);
}

// A panel as the text of an SVG element, and what is needed to find a place in it.
function draw(panel, data, state, width, height) {
  const { LEFT, RIGHT, TOP, BOTTOM, MARGIN, APART, NEAR, ROOM, MOST_POINTS } = data.sizes;
  const tokens = [...new Set(panel.curves.flatMap((curve) => curve.points.map((one) => one[0])))].sort((x, y) => x - y);
  const nats = panel.unit === "nats";
  const what = panel.signed ? "difference in points" : nats ? "nats per token" : "score";
  const label = `${panel.title}: ${what} over tokens; the values are in the table below the curves`;
  const parts = [`<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${clean(label)}">`,
    `<text class="title" x="6" y="15">${clean(panel.title)}</text>`];
  if (!tokens.length) {
    parts.push(`<text x="${width / 2}" y="${height / 2}" text-anchor="middle">nothing to show here</text></svg>`);
    return { text: parts.join(""), tokens };
  }
  let [low, high] = rangeOf(panel);
  const near = NEAR * (high - low);
  const inner = panel.lines.filter((line) => low - near <= line[1] && line[1] <= high + near);
  const outer = panel.lines.filter((line) => !inner.includes(line)).sort((one, other) => other[1] - one[1]);
  [low, high] = [Math.min(low, ...inner.map((line) => line[1])), Math.max(high, ...inner.map((line) => line[1]))];
  const room = nats ? (high / low) ** ROOM : ROOM * (high - low);
  [low, high] = nats ? [low / room, high * room] : [low - room, high + room];
  const above = outer.filter((line) => line[1] > high);
  const below = outer.filter((line) => line[1] < low);
  const top = TOP;
  const bottom = height - BOTTOM - (panel.foot ? MARGIN : 0);
  const right = width - RIGHT - (panel.error === null ? 0 : 14);
  const [first, last] = [tokens[0], tokens.at(-1)];
  const beyond = last > first ? (last / first) ** 0.04 : 1.2;
  const zoomed = state.from > data.tokens[0];
  const begin = zoomed ? first - 0.04 * (last - first || last) : 0;
  const ends = state.logarithmic ? [first / beyond, last * beyond] : [begin, last + 0.04 * (last - begin)];
  const across = scaleOf(ends, [LEFT, right], state.logarithmic);
  const down = scaleOf([low, high], [bottom - (below.length ? MARGIN : 0), top + (above.length ? MARGIN : 0)], nats);

  const values = nats ? logTicksOf(low, high) : ticksOf(low, high);
  const kept = [];
  for (const one of [...(panel.rules.length ? panel.rules : tokens)].reverse()) {
    if (!kept.length || across(kept.at(-1)) - across(one) >= APART) kept.push(one);
  }
  const grid = values.map((one) => `M${LEFT} ${place(down(one))}H${place(right)}`)
    .concat(panel.rules.map((one) => `M${place(across(one))} ${top}V${bottom}`), `M${LEFT} ${bottom}H${place(right)}`,
      kept.map((one) => `M${place(across(one))} ${bottom}v4`));
  parts.push(`<path class="grid" d="${grid.join("")}"/>`);
  if (panel.signed) parts.push(`<path class="zero" d="M${LEFT} ${place(down(0))}H${place(right)}"/>`);
  parts.push('<g class="marks">');
  const step = values.length > 1 ? values[1] - values[0] : 1;
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  for (const one of values) {
    const text = nats ? Number(one.toPrecision(3)) : panel.signed ? signed(one, digits) : one.toFixed(digits).replace("-", "−");
    parts.push(`<text x="${LEFT - 6}" y="${place(down(one) + 4)}" text-anchor="end">${text}</text>`);
  }
  for (const one of kept) {
    parts.push(`<text x="${place(across(one))}" y="${bottom + 16}" text-anchor="middle">${clean(markText(one, data))}</text>`);
  }
  const named = state.logarithmic ? "tokens, log scale" : "tokens";
  parts.push(`<text x="${place((LEFT + right) / 2)}" y="${bottom + 30}" text-anchor="middle">${named}</text>`,
    nats ? `<text x="${width - RIGHT}" y="15" text-anchor="end">nats per token, log scale</text>` : "");
  if (panel.foot) parts.push(`<text x="${place(right)}" y="${bottom + 30 + MARGIN}" text-anchor="end">${clean(panel.foot)}</text>`);
  parts.push("</g>");

  for (const [name, mean, error, color] of inner) {
    parts.push(`<g style="color:var(--${color})"><title>${clean(name)}: ${valueText(mean, error, panel)}</title>`,
      `<path d="M${LEFT} ${place(down(mean))}H${place(right)}" fill="none" stroke="currentColor" stroke-width="1.4"`,
      ` stroke-dasharray="${data.references[color].join(" ")}"/></g>`);
  }
  for (const { label: name, points } of panel.curves) {
    const look = data.looks[name];
    const at = points.map(([seen, mean]) => `${place(across(seen))} ${place(down(mean))}`);
    parts.push(`<g class="curve" style="color:var(--${look.color})">`);
    if (!nats && points.some((one) => one[2])) {
      const edge = (sign) => points.map(([seen, mean, error]) => `${place(across(seen))} ${place(down(mean + sign * error))}`);
      parts.push(`<path class="band" d="M${[...edge(1), ...edge(-1).reverse()].join("L")}z"/>`);
    }
    const dash = look.dash.length && points.length <= MOST_POINTS ? ` stroke-dasharray="${look.dash.join(" ")}"` : "";
    parts.push(`<path class="line" d="M${at.join("L")}" fill="none" stroke="currentColor" stroke-width="2"${dash}/>`);
    if (points.length <= MOST_POINTS) {
      parts.push(...points.map(([seen, mean, error], one) => `<g transform="translate(${at[one]})"><title>${clean(name)}: `
        + `${valueText(mean, error, panel)} at ${clean(markText(seen, data))}</title><path d="${look.shape}"/></g>`));
    }
    parts.push("</g>");
  }
  for (const [name, mean] of inner) {
    parts.push(`<text class="halo" x="${LEFT + 4}" y="${place(down(mean) - 4)}">${clean(name)} ${mean.toFixed(1)}</text>`);
  }
  if (panel.error !== null) {
    const [y, z] = [1, -1].map((sign) => place(down(middleOf(panel) + sign * panel.error)));
    parts.push(`<g style="color:var(--muted)"><title>± one standard error of a value, at most: ${panel.error.toFixed(1)}</title>`,
      `<path d="M${place(right + 5)} ${y}h8m-4 0V${z}m-4 0h8" fill="none" stroke="currentColor"/></g>`);
  }
  for (const [lines, y, arrow] of [[above, top + 10, "↑"], [below, bottom - 5, "↓"]]) {
    const words = lines.map((line) => `${arrow} ${line[0]} ${line[1].toFixed(1)}`).join("   ");
    if (words) parts.push(`<text class="margin" x="${place(right)}" y="${y}" text-anchor="end">${clean(words)}</text>`);
  }
  if (state.rule !== null && first <= state.rule && state.rule <= last) {
    parts.push(`<path class="rule" d="M${place(across(state.rule))} ${top}V${bottom}"/>`);
  }
  parts.push("</svg>");
  return { text: parts.join(""), tokens, across, top, bottom, right };
}

const menuOf = (options, chosen) => {
  const menu = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
  menu.value = chosen;
  return menu;
};

function sampleOf(look) {
  const made = element("span", { ariaHidden: "true" });
  const dash = look.dash.length ? ` stroke-dasharray="${look.dash.join(" ")}"` : "";
  made.innerHTML = `<svg class="sample" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--${look.color})"><path d="M0 6H36"`
    + ` stroke="currentColor" stroke-width="2"${dash}/><path transform="translate(18 6)" d="${look.shape}"/></svg>`;
  return made.firstChild;
}

function chartsOf(box) {
  const data = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const several = Object.keys(data.looks).length > 1;
  const stops = data.panels[0].rules.length ? data.panels[0].rules : data.tokens;
  const initial = () => ({ panel: 0, baseline: data.baseline, apart: false, logarithmic: data.logarithmic,
    from: data.tokens[0], to: data.tokens.at(-1), hidden: new Set(), at: data.at, rule: null });
  let state = initial();
  const figures = [...box.querySelectorAll("figure")].map((figure, number) => {
    const plot = element("div", { className: "plot", tabIndex: 0, role: "application" });
    plot.setAttribute("aria-roledescription", "chart");
    plot.append(figure.querySelector("svg"));
    const tip = element("div", { className: "tip", hidden: true });
    const one = { figure, plot, tip, large: figure.closest(".pair") !== null, difference: "difference" in figure.dataset, number };
    figure.append(plot, tip, saver(one, data));
    return one;
  });
  const small = figures.filter((one) => !one.large);

  // What each figure shows now: the small ones all panels but the one that is large.
  function panelOf(one) {
    const others = data.panels.map((_, place) => place).filter((place) => place !== state.panel);
    const panel = data.panels[one.large ? state.panel : others[small.indexOf(one)]];
    const apart = one.difference || (!one.large && state.apart);
    return viewOf(apart ? differenceOf(panel, state.baseline) : panel, state);
  }

  function show() {
    for (const one of figures) {
      const width = Math.max(280, Math.round(one.plot.clientWidth || data.sizes.WIDTH));
      const height = Math.round(one.large ? Math.min(380, Math.max(270, 0.725 * width)) : Math.min(290, Math.max(220, 0.6 * width)));
      one.panel = panelOf(one);
      one.width = width;
      one.drawn = draw(one.panel, data, state, width, height);
      one.plot.innerHTML = one.drawn.text;
      one.plot.setAttribute("aria-label", `${one.panel.title}. Left and right arrow keys read the values.`);
      one.save.setAttribute("aria-label", `Save ${one.panel.title}`);
      one.tip.hidden = true;
      one.figure.classList.toggle("footed", one.panel.foot !== "");
    }
    if (data.at !== null) compare();
    reset.disabled = JSON.stringify(state, plain) === JSON.stringify(initial(), plain);
  }
  const plain = (_, value) => (value instanceof Set ? [...value] : value);

  // ---- Values of all curves at a milestone, the highest first: where the pointer is, or by the arrow keys.
  function read(one, tokens, aloud) {
    const { across, top, bottom } = one.drawn;
    one.plot.querySelector(".cursor")?.remove();
    one.plot.firstChild.insertAdjacentHTML("beforeend",
      `<path class="cursor" d="M${place(across(tokens))} ${top}V${bottom}"/>`);
    one.at = tokens;
    const rows = one.panel.curves.map((curve) => [curve.label, curve.points.find((point) => point[0] === tokens)])
      .filter((row) => row[1]).sort((row, other) => other[1][1] - row[1][1]);
    const head = `${markText(tokens, data)} tokens`;
    one.tip.replaceChildren(element("b", {}, head), ...rows.map(([label, point]) => element("div", {},
      sampleOf(data.looks[label]), element("span", {}, label), element("span", {}, valueText(point[1], point[2], one.panel)))));
    one.tip.hidden = false;
    const x = one.plot.offsetLeft + (across(tokens) / one.width) * one.plot.clientWidth;
    const left = x + 14 + one.tip.offsetWidth > one.figure.clientWidth ? x - 14 - one.tip.offsetWidth : x + 14;
    one.tip.style.left = `${Math.max(4, Math.min(left, one.figure.clientWidth - one.tip.offsetWidth - 4))}px`;
    if (aloud) say(`${head}: ${rows.map(([label, point]) => `${label} ${valueText(point[1], point[2], one.panel)}`).join("; ")}`);
  }
  function hide(one) {
    one.tip.hidden = true;
    one.at = undefined;
    one.plot.querySelector(".cursor")?.remove();
  }
  // The point nearest to a place of the window.
  function nearest(one, x) {
    const box = one.plot.getBoundingClientRect();
    const inside = ((x - box.left) / box.width) * one.width;
    return one.drawn.tokens.reduce((best, tokens) => (
      Math.abs(one.drawn.across(tokens) - inside) < Math.abs(one.drawn.across(best) - inside) ? tokens : best));
  }

  for (const one of figures) {
    const { plot } = one;
    let from = null;
    const live = () => one.drawn.tokens.length > 0;
    plot.addEventListener("pointermove", (event) => {
      if (!live()) return;
      read(one, nearest(one, event.clientX), false);
      if (from === null) return;
      const box = plot.getBoundingClientRect();
      const [x, z] = [from, event.clientX].map((x) => ((x - box.left) / box.width) * one.width).sort((x, y) => x - y);
      plot.querySelector(".chosen")?.remove();
      plot.firstChild.insertAdjacentHTML("beforeend", `<rect class="chosen" x="${x}" y="${one.drawn.top}" width="${z - x}"`
        + ` height="${one.drawn.bottom - one.drawn.top}"/>`);
    });
    plot.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button !== 0 || !live()) return;
      from = event.clientX;
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const box = plot.getBoundingClientRect();
      const [low, high] = [from, event.clientX].sort((x, y) => x - y)
        .map((x) => ((x - box.left) / box.width) * one.width);
      from = null;
      plot.querySelector(".chosen")?.remove();
      const within = one.drawn.tokens.filter((tokens) => low <= one.drawn.across(tokens) && one.drawn.across(tokens) <= high);
      if (within.length > 1) zoom(within[0], within.at(-1));
    });
    plot.addEventListener("pointercancel", () => { from = null; plot.querySelector(".chosen")?.remove(); });
    plot.addEventListener("pointerleave", () => { if (from === null) hide(one); });
    plot.addEventListener("dblclick", () => zoom(data.tokens[0], data));
    plot.addEventListener("blur", () => hide(one));
    plot.addEventListener("keydown", (event) => {
      const steps = (one.panel.rules.length ? one.panel.rules : one.drawn.tokens).map((tokens) => (
        one.drawn.tokens.findLast((point) => point <= tokens) ?? one.drawn.tokens[0]));
      if (!live() || !["ArrowLeft", "ArrowRight", "Home", "End", "Escape"].includes(event.key)) return;
      event.preventDefault();
      if (event.key === "Escape") { hide(one); return; }
      const now = steps.indexOf(one.at);
      const next = { ArrowLeft: now < 0 ? steps.length - 1 : Math.max(0, now - 1), ArrowRight: Math.min(steps.length - 1, now + 1),
        Home: 0, End: steps.length - 1 }[event.key];
      read(one, steps[next], true);
    });
  }

  // ---- Controls.
  const labels = [...(several ? Object.keys(data.looks) : []), ...new Set(data.panels.flatMap((panel) => panel.lines.map((line) => line[0])))];
  const panels = menuOf(data.panels.map((panel, place) => [place, panel.title]), 0);
  const baselines = menuOf(labels.map((label) => [label, label]), state.baseline);
  const kinds = menuOf([["", "scores"], ["1", "differences"]], "");
  const axis = menuOf([["1", "log"], ["", "linear"]], state.logarithmic ? "1" : "");
  const marks = stops.map((tokens) => [tokens, markText(tokens, data)]);
  const [from, to] = [menuOf(marks, stops[0]), menuOf(marks, stops.at(-1))];
  const reset = element("button", { type: "button" }, "Reset");
  const tools = element("div", { className: "tools", role: "group", ariaLabel: "What the curves show" });
  const named = (text, ...controls) => tools.append(element("label", {}, text, " ", ...controls));
  if (data.panels.length > 1) named("Large", panels);
  if (data.baseline) named("Difference from", baselines);
  if (data.baseline && small.length) named("Small", kinds);
  named("Tokens", axis);
  if (stops.length > 1) { named("from", from); named("to", to); }
  tools.append(reset);
  box.prepend(tools);

  // From the first stop on, a long curve is shown from its first point.
  function zoom(low, high) {
    state.from = low;
    state.to = high;
    from.value = stops.find((tokens) => tokens >= low) ?? stops[0];
    to.value = stops.findLast((tokens) => tokens <= high) ?? stops.at(-1);
    show();
    say(`From ${markText(low, data)} to ${markText(high, data)} tokens.`);
  }
  function menus() {
    const [low, high] = [Number(from.value), Number(to.value)].sort((x, y) => x - y);
    if (low === high) zoom(state.from, state.to); // one milestone is no curve
    else zoom(low === stops[0] ? data.tokens[0] : low, high === stops.at(-1) ? data.tokens.at(-1) : high);
  }
  const set = (menu, change) => menu.addEventListener("change", () => { change(menu.value); show(); });
  set(panels, (value) => { state.panel = Number(value); });
  set(baselines, (value) => { state.baseline = value; });
  set(kinds, (value) => { state.apart = value === "1"; });
  set(axis, (value) => { state.logarithmic = value === "1"; });
  from.addEventListener("change", menus);
  to.addEventListener("change", menus);

  const toggles = several ? [...box.querySelectorAll(".legend [data-label]")].map((entry) => {
    const { label } = entry.dataset;
    const toggle = element("button", { type: "button", ariaPressed: "true", title: "Show or hide" }, ...entry.childNodes);
    toggle.addEventListener("click", () => {
      state.hidden[state.hidden.has(label) ? "delete" : "add"](label);
      toggle.ariaPressed = String(!state.hidden.has(label));
      show();
    });
    entry.append(toggle);
    return toggle;
  }) : [];

  // ---- Compared at one milestone.
  const compared = box.querySelector(".compared");
  const slider = element("input", { type: "range", min: 0, max: data.tokens.length - 1, step: 1 });
  const where = element("output");
  function compare() {
    const panel = data.panels[state.panel];
    const apart = data.baseline ? differenceOf(panel, state.baseline) : null;
    const at = (curve) => curve?.points.find((point) => point[0] === state.at);
    const text = markText(state.at, data);
    compared.querySelector("h3").textContent = `${panel.title} at ${text} tokens`;
    slider.value = data.tokens.indexOf(state.at);
    slider.setAttribute("aria-valuetext", `${text} tokens`);
    where.textContent = text;
    const rows = panel.curves.map((curve) => [curve, at(curve), at(apart?.curves.find((one) => one.label === curve.label))]);
    rows.sort((row, other) => (other[1]?.[1] ?? -Infinity) - (row[1]?.[1] ?? -Infinity));
    const heads = [["Curve"], ["Score"], ...(apart ? [["Less ", ...breakable(state.baseline)]] : [])];
    const cell = (point, shown) => element("td", {}, point ? valueText(point[1], point[2], shown) : "–");
    compared.querySelector("table").replaceChildren(
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, ...head)))),
      element("tbody", {}, ...rows.map(([curve, value, difference]) => element("tr", {},
        element("th", { scope: "row" }, sampleOf(data.looks[curve.label]), " ", ...breakable(curve.label)),
        cell(value, panel), ...(apart ? [cell(difference, apart)] : [])))));
    return rows.map(([curve, value]) => `${curve.label} ${value ? value[1].toFixed(1) : "not evaluated"}`).join(", ");
  }
  if (compared) {
    slider.addEventListener("input", () => {
      state.at = state.rule = data.tokens[slider.value];
      show();
      say(`At ${where.textContent}: ${compare()}`);
    });
    compared.querySelector("h3").after(element("p", { className: "tools" },
      element("label", {}, "Compare at ", slider), where));
  }

  reset.addEventListener("click", () => {
    state = initial();
    for (const [menu, value] of [[panels, 0], [baselines, state.baseline], [kinds, ""], [axis, state.logarithmic ? "1" : ""],
      [from, stops[0]], [to, stops.at(-1)]]) menu.value = value;
    for (const toggle of toggles) toggle.ariaPressed = "true";
    show();
    say("Curves as at first.");
  });

  let width = 0;
  new ResizeObserver(() => {
    const now = figures[0].plot.clientWidth;
    if (now && now !== width) { width = now; show(); }
  }).observe(box);
  show();
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
    return `<g transform="translate(${x} ${y})" style="color:var(--${look.color})"><path d="M0 0H36" stroke="currentColor"`
      + ` stroke-width="2"${dash}/><path transform="translate(18 0)" d="${look.shape}" fill="currentColor"/>`
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

function saver(one, data) {
  const offer = (content, ending, type) => {
    const name = `${one.panel.title.toLowerCase().replace(/[^a-z0-9]+/g, "_")}.${ending}`;
    save(name, content, type);
    say(`${name} saved.`);
  };
  const makes = {
    SVG: () => offer(pictureOf(one, data).text, "svg", "image/svg+xml"),
    PNG: async () => {
      const { text, width, height } = pictureOf(one, data);
      const image = element("img", { src: `data:image/svg+xml,${encodeURIComponent(text)}` });
      await image.decode();
      const canvas = element("canvas", { width: 2 * width, height: 2 * height });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => offer(blob, "png", "image/png"), "image/png");
    },
    CSV: () => offer(tableOf(one), "csv", "text/csv"),
  };
  one.save = element("summary", {}, "Save");
  const buttons = Object.entries(makes).map(([name, make]) => {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", make);
    return button;
  });
  return element("details", { className: "save tools" }, one.save, ...buttons);
}

document.querySelectorAll("[data-charts]").forEach(chartsOf);
