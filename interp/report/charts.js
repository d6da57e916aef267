// Bars of shares, and lines by layer.

function stack(rows, colours, names) {
  const whole = make("div", { class: "stack" });
  for (const { name, values, now } of rows) {
    const said = names.map((part, index) => `${part} ${values[index].toFixed(3)}`).join(", ");
    const bar = make("div", { class: "whole", role: "img", "aria-label": `${name}: ${said}`, title: said });
    values.forEach((value, index) => {
      const part = make("span", { class: "part" });
      part.style.width = `${100 * value}%`;
      part.style.background = colours[index];
      bar.append(part);
    });
    whole.append(make("div", { class: now ? "row now" : "row" }, ...(name ? [make("span", { class: "name" }, name)] : []), bar));
  }
  return whole;
}

function drawn(name, attributes, ...contents) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...contents);
  return made;
}

// Lines over the layers; `lines` are {values, colour, dashed}. A vertical rule marks the chosen layer.
function lineChart({ lines, layers, low, high, unit, now, said }) {
  const [width, height, left, right, top, bottom] = [340, 172, 38, 8, 8, 32];
  const x = (index) => left + ((width - left - right) * (layers.length > 1 ? index / (layers.length - 1) : 0.5));
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const chart = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said });
  for (const value of [low, (low + high) / 2, high]) {
    chart.append(drawn("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: value === 0 ? "#8c959f" : "#e3e7eb" }));
    chart.append(drawn("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, Number(value.toFixed(2)).toString()));
  }
  if (now !== null) chart.append(drawn("line", { x1: x(now), x2: x(now), y1: top, y2: height - bottom, stroke: "#1d2329", "stroke-dasharray": "2 3" }));
  const step = Math.ceil(layers.length / 9);
  layers.forEach((layer, index) => {
    if (index % step === 0) chart.append(drawn("text", { x: x(index), y: height - bottom + 14, "text-anchor": "middle" }, String(layer)));
  });
  chart.append(drawn("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, `layer · ${unit}`));
  for (const { values, colour, dashed } of lines) {
    const points = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    chart.append(drawn("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2, ...(dashed ? { "stroke-dasharray": "6 3" } : {}) }));
    values.forEach((value, index) => chart.append(drawn("circle", { cx: x(index), cy: y(value), r: 2.6, fill: colour })));
  }
  return chart;
}

function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name)));
  const lines = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, String(cell)))));
  return make("div", { class: "wide" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)));
}
