// ---- Curves, drawn: the same drawings as `evaluator.report.charts` makes, of what is shown, at the width there is.

const clean = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const place = (value) => String(Math.floor(10 * value + 0.5) / 10);
// `evaluator.text.fixed`: from the middle between two away from zero.
function fixed(value, digits) {
  const whole = Math.floor(Math.abs(value) * 10 ** digits + 0.5 + 2e-5);
  return `${value < 0 && whole ? "-" : ""}${(whole / 10 ** digits).toFixed(digits)}`;
}
// `evaluator.text.significant`: in so many digits, without zeros at the end.
function significant(value, digits) {
  if (!value) return "0";
  const places = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
  return String(Number(places <= 0 ? fixed(value / 10 ** -places, 0) * 10 ** -places : fixed(value, places)));
}
const signed = (value, digits) => `${value > 0 && Number(fixed(value, digits)) ? "+" : ""}${fixed(value, digits)}`
  .replace(/^-(0(\.0+)?)$/, "$1").replace("-", "−");

function markText(tokens, data) {
  const title = data.titles[tokens];
  if (title) return title;
  const most = data.tokens.at(-1);
  const [unit, size] = [["B", 1e9], ["M", 1e6], ["K", 1e3], ["", 1]].find(([, one]) => most >= 0.1 * one);
  return significant(tokens / size, 2) + unit;
}

// A number of nats in so many digits, below `least` with a power of ten.
function natsText(value, digits, least = 0.001) {
  if (!(Math.abs(value) > 0 && Math.abs(value) < least)) return significant(value, digits);
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${power}`;
}

function valueText(value, error, panel) {
  if (panel.unit === "nats") return natsText(value, 3) + (error ? ` ± ${natsText(error, 2)}` : "");
  const text = panel.signed ? signed(value, 1).replace(/^0\.0$/, "+0.0") : fixed(value, 1);
  return error ? `${text} ± ${fixed(error, 1)}` : text;
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

// As much of a title as there is room for.
function fitted(title, width, data) {
  const most = Math.floor((width - 12) / data.sizes.LETTER);
  return title.length <= most ? title : `${title.slice(0, most - 1)}…`;
}

// A panel as the text of an SVG element, and what is needed to find a place in it.
function draw(panel, data, state, width, height) {
  const { LEFT, RIGHT, TOP, BOTTOM, MARGIN, APART, NEAR, ROOM, NAMED, MOST_POINTS } = data.sizes;
  const tokens = [...new Set(panel.curves.flatMap((curve) => curve.points.map((one) => one[0])))].sort((x, y) => x - y);
  const nats = panel.unit === "nats";
  const what = panel.signed ? "difference in points" : nats ? "nats per token" : "score";
  const label = `${panel.title}: ${what} over tokens; the values are in the table below the curves`;
  const parts = [`<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${clean(label)}">`,
    `<text class="title" x="6" y="15">${clean(fitted(panel.title, width, data))}</text>`];
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
    const text = nats ? natsText(one, 3, 0.01) : panel.signed ? signed(one, digits) : fixed(one, digits).replace("-", "−");
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
    const edge = (sign) => points.map(([seen, mean, error]) => `${place(across(seen))} ${place(down(mean + sign * error))}`);
    const errors = !nats && points.some((one) => one[2]);
    if (errors && !look.hollow) {
      parts.push(`<path class="band" d="M${[...edge(1), ...edge(-1).reverse()].join("L")}z"/>`);
    }
    const dashed = look.dash.length && points.length <= MOST_POINTS && !look.hollow;
    const dash = dashed ? ` stroke-dasharray="${look.dash.join(" ")}"` : "";
    // A point has no band.
    const bars = errors && (look.hollow || points.length === 1) ? edge(1).map((one, number) => `${one}L${edge(-1)[number]}`) : null;
    parts.push(`<path class="line" d="M${bars ? bars.join("M") : at.join("L")}" fill="none" stroke="currentColor" stroke-width="2"${dash}/>`);
    if (points.length <= MOST_POINTS) {
      parts.push(...points.map(([seen, mean, error], one) => `<g transform="translate(${at[one]})"><title>${clean(name)}: `
        + `${valueText(mean, error, panel)} at ${clean(markText(seen, data))}</title><path d="${look.shape}"${look.hollow ?? ""}/></g>`));
    }
    parts.push("</g>");
  }
  for (const [name, mean] of inner) {
    // Where the curves leave more room.
    const y = down(mean) - 4;
    const room = [(x) => x < LEFT + NAMED, (x) => x > width - RIGHT - NAMED].map((near) => Math.min(Infinity,
      ...panel.curves.flatMap((curve) => curve.points.filter((one) => near(across(one[0]))).map((one) => Math.abs(down(one[1]) - y)))));
    const left = room[0] >= Math.min(MARGIN, room[1]);
    parts.push(`<text class="halo" x="${place(left ? LEFT + 4 : right - 4)}" y="${place(y)}" text-anchor="${left ? "start" : "end"}">`
      + `${clean(name)} ${fixed(mean, 1)}</text>`);
  }
  if (panel.error !== null) {
    const [y, z] = [1, -1].map((sign) => place(down(middleOf(panel) + sign * panel.error)));
    parts.push(`<g style="color:var(--muted)"><title>± one standard error of a value, at most: ${fixed(panel.error, 1)}</title>`,
      `<path d="M${place(right + 5)} ${y}h8m-4 0V${z}m-4 0h8" fill="none" stroke="currentColor"/></g>`);
  }
  for (const [lines, y, arrow] of [[above, top + 10, "↑"], [below, bottom - 5, "↓"]]) {
    const words = lines.map((line) => `${arrow} ${line[0]} ${fixed(line[1], 1)}`).join("   ");
    if (words) parts.push(`<text class="margin" x="${place(right)}" y="${y}" text-anchor="end">${clean(words)}</text>`);
  }
  if (state.rule !== null && first <= state.rule && state.rule <= last) {
    parts.push(`<path class="rule" d="M${place(across(state.rule))} ${top}V${bottom}"/>`);
  }
  parts.push("</svg>");
  return { text: parts.join(""), tokens, across, top, bottom, right };
}
