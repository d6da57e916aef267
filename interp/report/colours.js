// Colours of values, legends and swatches.

const parts = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));

function shade(value, stops) {
  const place = Math.min(Math.max(value || 0, 0), 1) * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  const [low, high] = [parts(stops[first]), parts(stops[first + 1])];
  return low.map((from, index) => Math.round(from + (high[index] - from) * (place - first)));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((part) => { const c = part / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

const ink = (rgb) => ((luminance(rgb) + 0.05) ** 2 > 1.05 * 0.05 ? "#000" : "#fff");
const css = (rgb) => `rgb(${rgb.join(" ")})`;

function paint(element, value, stops) {
  const ground = shade(value, stops);
  element.style.background = css(ground);
  element.style.color = ink(ground);
}

// An element with attributes and contents; contents are set as text nodes, never parsed as markup.
function make(name, attributes = {}, ...contents) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...contents);
  return made;
}

function number(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  return size >= 0.01 && size < 1000 ? value.toFixed(size < 10 ? 3 : 1) : value.toExponential(1).replace("e-", "e−");
}

function legend(stops, most, unit) {
  const ramp = make("span", { class: "ramp", "aria-hidden": "true" });
  ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  return make("span", { class: "legend" }, "0", ramp, `${number(most)} ${unit}`);
}

function swatches(names, colours, values) {
  const items = names.map((name, index) => {
    const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = colours[index];
    return make("li", {}, swatch, values ? `${name} ${values[index].toFixed(3)}` : name);
  });
  return make("ul", { class: "swatches" }, ...items);
}
