// One token of a reply: what it was predicted from.

function showToken() {
  const reading = readingNow();
  showControls();
  const word = reading.words[reading.first + state.token];
  $("token-head").textContent = `“${word}” · ${reading.name}`;
  const p = Math.exp(reading.logprobs[state.token]);
  const label = reading.labels[state.token];
  $("token-facts").textContent =
    `Token ${state.token + 1} of ${reading.labels.length}, position ${reading.first + state.token}; predicted by the row of ` +
    `“${reading.words[reading.first + state.token - 1]}” with p = ${number(p)} (−ln p = ${number(reading.scores.surprise[state.token])} nats). ` +
    `Label: ${page.labels[label]}.`;
  const panels = [["attention", "Attention", "of the row (0 to 1)"], ["saliency", "Saliency", "nats"]];
  $("panels").replaceChildren(...panels.map(([kind, title, unit]) => panel(reading, kind, title, unit)));
  showBudget(reading);
  showSinks(reading);
  showDrift(reading);
  showAgain(reading);
}

function panel(reading, kind, title, unit) {
  const rows = reading[kind];
  if (!rows) return make("div", { class: "card" }, make("h3", {}, title), make("p", { class: "note" }, "Not to be had for this model; see the note at the reply."));
  const values = rows.at(state.token, state.layer, state.head);
  const every = state.oneScale ? rows.indices(state.token, null, null).map((row) => rows.rows.mean([row])) : [values];
  const most = (keys) => Math.max(0, ...every.map((row) => keys.reduce((found, key) => Math.max(found, row[key]), 0)));
  const onImage = page.places.map((place) => place.at);
  const chosen = `${state.layer === null ? "mean of layers" : `layer ${reading.layers[state.layer]}`}, ${state.head === null ? "mean of heads" : `head ${state.head}`}`;
  const shown = make("div", { class: `card panel ${kind}` }, make("h3", {}, title), make("p", { class: "soft" }, chosen));
  const maps = make("div", { class: "maps" });
  page.images.forEach((image, index) => maps.append(imageFigure(image, index, reading, { values, most: most(onImage), kind, unit, said: `${title}, ${chosen}` })));
  maps.append(gridFigure(reading, rows, kind, unit));
  const sinks = reading.sinks.map((sink) => sink.position);
  const text = range(reading.first + state.token).filter((at) => reading.segments[at] !== "IMAGE" && !sinks.includes(at));
  shown.append(maps, ...textMap(reading, values, { most: most(text), kind, unit, sinks }));
  return shown;
}

function imageFigure(image, index, reading, { values, most, kind, unit, said }) {
  const places = page.places.filter((place) => place.image === index);
  const mine = places.map((place) => values[place.at]);
  const canvas = make("canvas", { role: "img", class: "map" });
  const all = page.places;
  const outlined = state.anchors && reading.drift
    ? reading.drift.anchors[state.token].map((at) => places.indexOf(all[at])).filter((at) => at >= 0) : [];
  drawMap(canvas, image, places, mine, most, stopsOf(kind), outlined);
  const best = mine.map((value, at) => [value, at]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const largest = `On the image ${number(sum(mine))}; most at ${best.map(([value, at]) => `${whereIs(places[at])} (${number(value)})`).join("; ")}.`;
  canvas.setAttribute("aria-label", `${said}. ${largest}`);
  const caption = make("figcaption", {}, largest);
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const tall = mapSize(image)[1] / canvas.height;
    const at = under(places, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height / tall);
    caption.textContent = at === null ? largest : `${whereIs(places[at])}: ${number(mine[at])} ${unit}`;
  });
  canvas.addEventListener("pointerleave", () => { caption.textContent = largest; });
  return make("figure", { class: "image" }, make("p", { class: "scale" }, legend(stopsOf(kind), most, unit)), canvas, caption);
}

// How much lies on the image (on all other tokens where there is none) by layer and head; a click chooses.
function gridFigure(reading, rows, kind, unit) {
  const at = page.places.length ? page.places.map((place) => place.at) : range(reading.first);
  const values = range(rows.layers).map((l) => range(rows.heads).map((h) => {
    const row = rows.at(state.token, l, h);
    return sum(at.map((key) => row[key]));
  }));
  const most = Math.max(...values.flat());
  const canvas = make("canvas", { role: "img", class: "heads", "aria-label": `${kind} on ${page.places.length ? "the image" : "the prompt"} by layer and head, at most ${number(most)}; the sliders choose one` });
  drawGrid(canvas, values, most, stopsOf(kind), state.layer, state.head);
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const head = Math.min(Math.floor(((event.clientX - box.left) / box.width) * rows.heads), rows.heads - 1);
    const up = Math.min(Math.floor(((box.bottom - event.clientY) / box.height) * rows.layers), rows.layers - 1);
    choose({ layer: up, head: rows.heads > 1 ? head : null });
  });
  const caption = make("figcaption", {}, `Together on the ${page.places.length ? "image" : "prompt"}, by head (→) and layer (↑). Click to choose.`);
  return make("figure", { class: "grid" }, make("p", { class: "scale" }, legend(stopsOf(kind), most, unit.replace(" (0 to 1)", ""))), canvas, caption);
}

function textMap(reading, values, { most, kind, unit, sinks }) {
  const text = make("div", { class: "text" });
  const last = reading.first + state.token;
  let before = reading.segments[0];
  for (let at = 0; at < last; at++) {
    const segment = reading.segments[at];
    if (segment === "PAD") continue;
    const begins = segment !== before || at === 0;
    before = segment;
    if (segment === "IMAGE") {
      const run = range(last - at).findIndex((step) => reading.segments[at + step] !== "IMAGE");
      const count = run < 0 ? last - at : run;
      const share = sum(range(count).map((step) => values[at + step]));
      text.append(make("span", { class: "word image", title: `${count} image tokens: ${number(share)} together` }, `▦ ${count} image tokens: ${number(share)}`));
      at += count - 1;
      continue;
    }
    if (begins && at) text.append(make("span", { class: "segment", "aria-hidden": "true" }));
    const rests = sinks.includes(at);
    const word = make("span", { class: rests ? "word sink" : "word", title: `${segment} ${at}: ${number(values[at])}` }, reading.words[at], ...(rests ? [` ${number(values[at])}`] : []));
    paint(word, most ? values[at] / most : 0, stopsOf(kind));
    text.append(word);
  }
  const scale = make("p", { class: "scale" }, legend(stopsOf(kind), most, unit), ...(sinks.length ? [make("span", { class: "word sink" }, "sink"), "off the scale"] : []));
  return [make("h3", {}, "On the text before it"), scale, text];
}

// -------------------------------------------------------------------------------------------- budget, sinks, anchors, drift

function shareRows(reading, layer, head) {
  return reading.attention.indices(state.token, layer, head);
}

function showBudget(reading) {
  const line = (layer) => reading.shares.mean(shareRows(reading, layer, state.head));
  const now = line(state.layer);
  const rows = [{ name: "all layers", values: line(null), now: state.layer === null }];
  reading.layers.forEach((layer, index) => rows.unshift({ name: `layer ${layer}`, values: line(index), now: state.layer === index }));
  $("budget").replaceChildren(swatches(page.parts, page.colours.parts, now), stack(rows, page.colours.parts, page.parts));
}

function showSinks(reading) {
  const values = reading.attention.at(state.token, state.layer, state.head);
  if (!reading.sinks.length) {
    $("sinks").replaceChildren(make("p", {}, "No token of this conversation is a sink by the default bounds."));
    return;
  }
  const rows = reading.sinks.map((sink) => [`${sink.token} at ${sink.position}`, number(values[sink.position]), sink.layers.join(", ") || "none", number(sink.received)]);
  const known = table(["token", "from this row", "a sink in layers", "from all rows, at most"], rows);
  $("sinks").replaceChildren(known, make("p", { class: "soft" }, "Attention, 0 to 1. “From this row”: at the layer and head chosen above; “from all rows”: mean over heads and over the tokens that see it, largest over layers."));
}

function showDrift(reading) {
  const { drift, layers } = reading;
  if (!drift) {
    $("drift").replaceChildren(make("p", {}, "There is no image to be anchored in."));
    return;
  }
  const pick = (lines) => lines.map((line) => line[state.token]);
  const [positive, negative, entropy] = [drift.positive, drift.negative, drift.entropy].map(pick);
  const { blue, orange } = page.colours;
  const lines = [{ values: positive, colour: blue }, { values: negative, colour: orange, dashed: true }];
  const ends = `from ${number(positive[0])} in layer ${layers[0]} to ${number(positive[positive.length - 1])} in layer ${layers[layers.length - 1]}`;
  const most = Math.ceil(Math.log(Math.max(page.places.length, 2)) * 10) / 10;
  $("drift").replaceChildren(
    swatches([`with the positive anchor (layer ${drift.middle})`, `with the negative anchor (layer ${drift.first}, dashed)`], [blue, orange]),
    lineChart({ lines, layers, low: -1, high: 1, unit: "correlation r (−1 to 1)", now: state.layer, said: `Correlation with the positive anchor ${ends}` }),
    make("p", { class: "soft" }, `Spread of its look at the image: entropy in nats, at most ln ${page.places.length} = ${number(Math.log(page.places.length))}`),
    lineChart({ lines: [{ values: entropy, colour: "#4b5560" }], layers, low: 0, high: most, unit: "entropy (nats)", now: state.layer, said: `Entropy of the map by layer, ${entropy.map(number).join(", ")}` }),
  );
}

// ------------------------------------------------------------------------------------- the same reply under every change

function showAgain(reading) {
  if (page.readings.length < 2) return;
  const token = state.token;
  if (state.reading !== 0) {
    $("again").replaceChildren(make("p", { class: "soft" }, `Choose a token of the reply “${page.readings[0].name}” to see what becomes of it under every change.`));
    return;
  }
  const word = reading.words[reading.first + token];
  const most = Math.max(0, ...page.forced.flatMap((one) => [...one.maps.mean([token])]));
  const cards = page.forced.map((one, index) => {
    const about = page.readings[index];
    const p = one.logprobs[token] === null ? 0 : Math.exp(one.logprobs[token]);
    const shares = one.shares.mean([token]);
    const card = make("div", { class: "card" }, make("h3", {}, about.name), make("p", {}, `p = ${number(p)}`));
    const values = one.maps.mean([token]);
    page.images.forEach((image, at) => {
      const canvas = make("canvas", { role: "img", class: "map", "aria-label": `attention on the image, ${about.name}, together ${number(sum([...values]))}` });
      const chosen = page.places.map((place, key) => [place, values[key]]).filter(([place]) => place.image === at);
      drawMap(canvas, image, chosen.map(([place]) => place), chosen.map(([, value]) => value), most, stopsOf("attention"));
      card.append(canvas);
    });
    card.append(stack([{ name: "", values: shares, now: false }], page.colours.parts, page.parts));
    card.append(make("p", { class: "soft" }, page.parts.map((part, at) => `${part} ${shares[at].toFixed(2)}`).join(" · ")));
    return card;
  });
  $("again").replaceChildren(
    make("h2", {}, `“${word}” under every change, in the same reply`),
    make("p", { class: "soft" }, "The reply as it is, forced token by token: how likely each change makes this token, and where its row then looks (attention, mean over layers and heads, one scale)."),
    ...(page.images.length ? [legend(stopsOf("attention"), most, "of the row (0 to 1)")] : []),
    make("div", { class: "again" }, ...cards),
  );
}

