// ---- Curves: read by pointing or with the arrow keys, compared at a milestone and with a baseline, zoomed, saved. What
// is drawn at first is what the page came with (`evaluator.report.charts`), at the width there is.

const menuOf = (options, chosen) => {
  const menu = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
  menu.value = chosen;
  return menu;
};

function sampleOf(look) {
  const made = element("span", { ariaHidden: "true" });
  const dash = look.dash.length ? ` stroke-dasharray="${look.dash.join(" ")}"` : "";
  const line = look.hollow ? "" : `<path d="M0 6H36" stroke="currentColor" stroke-width="2"${dash}/>`;
  made.innerHTML = `<svg class="sample" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--${look.color})">${line}`
    + `<g transform="translate(18 6)"><path d="${look.shape}"${look.hollow ?? ""}/></g></svg>`;
  return made.firstChild;
}

function chartsOf(box) {
  const data = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  const several = Object.keys(data.looks).length > 1;
  const stops = data.panels[0].rules.length ? data.panels[0].rules : data.tokens;
  const initial = () => ({ panel: 0, baseline: data.baseline, apart: data.apart, logarithmic: data.logarithmic,
    from: data.tokens[0], to: data.tokens.at(-1), hidden: new Set(), at: data.at, rule: null });
  let state = initial();
  const figures = [...box.querySelectorAll("figure")].map((figure, number) => {
    const plot = element("div", { className: "plot", tabIndex: 0, role: "application" });
    plot.setAttribute("aria-roledescription", "chart");
    plot.append(figure.querySelector("svg"));
    const tip = element("div", { className: "tip", hidden: true });
    const one = { figure, plot, tip, large: figure.closest(".pair") !== null, difference: "difference" in figure.dataset, number };
    one.links = figure.querySelector("figcaption");
    one.save = saver(one, data);
    one.links.before(plot, tip);
    one.links.prepend(one.save);
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
      one.save.firstChild.setAttribute("aria-label", `Save ${one.panel.title}`);
      one.links.replaceChildren(one.save, ...sourcesOf(one.panel.origin, `the figure ${one.panel.title}`));
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
    plot.addEventListener("dblclick", () => zoom(data.tokens[0], data.tokens.at(-1)));
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
  const kinds = menuOf([["", "scores"], ["1", "differences"]], data.apart ? "1" : "");
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
    const from = (curve, value) => element("td", { className: "how" }, ...sourcesOf(curve.origins[curve.points.indexOf(value)], `${curve.label} at ${text}`));
    rows.sort((row, other) => (other[1]?.[1] ?? -Infinity) - (row[1]?.[1] ?? -Infinity));
    const heads = [["Curve"], ["Score"], ...(apart ? [["Less ", ...breakable(state.baseline)]] : []), ["From"]];
    const cell = (point, shown) => element("td", {}, point ? valueText(point[1], point[2], shown) : "–");
    compared.querySelector("table").replaceChildren(
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col", className: head[0] === "From" ? "how" : "" }, ...head)))),
      element("tbody", {}, ...rows.map(([curve, value, difference]) => element("tr", {},
        element("th", { scope: "row" }, sampleOf(data.looks[curve.label]), " ", ...breakable(curve.label)),
        cell(value, panel), ...(apart ? [cell(difference, apart)] : []), from(curve, value)))));
    return rows.map(([curve, value]) => `${curve.label} ${value ? fixed(value[1], 1) : "not evaluated"}`).join(", ");
  }
  if (compared && data.tokens.length > 1) {
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
    for (const [menu, value] of [[panels, 0], [baselines, state.baseline], [kinds, data.apart ? "1" : ""], [axis, state.logarithmic ? "1" : ""],
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

document.querySelectorAll("[data-charts]").forEach(chartsOf);
