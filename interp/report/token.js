// One token of a reply: the row that predicts it.

function showToken() {
  const reply = replyNow();
  showControls();
  const word = reply.words[reply.first + state.token];
  $("token-head").textContent = `“${word}” · ${reply.name}`;
  const p = Math.exp(reply.logprobs[state.token]);
  const label = reply.labels[state.token];
  $("token-facts").textContent =
    `Token ${state.token + 1} of ${reply.labels.length}, position ${reply.first + state.token}; predicted by the row of ` +
    `“${reply.words[reply.first + state.token - 1]}” with p = ${number(p)} (−ln p = ${number(reply.scores.surprisal[state.token])} nats). ` +
    `Label: ${page.labels[label]}.`;
  const panels = [["attention", "Attention", "of the row (0 to 1)"], ["saliency", "Saliency", "nats"]];
  $("panels").replaceChildren(...panels.map(([kind, title, unit]) => panel(reply, kind, title, unit)));
  showBudget(reply);
  showSinks(reply);
  showDrift(reply);
  showAgain(reply);
}

function panel(reply, kind, title, unit) {
  const rows = reply[kind];
  if (!rows) return make("div", { class: "card" }, make("h3", {}, title), make("p", { class: "note" }, "Not available for this model; see the note at the reply."));
  const values = rows.at(state.token, state.layer, state.head);
  const every = state.oneScale ? rows.indices(state.token, null, null).map((row) => rows.rows.mean([row])) : [values];
  const most = (keys) => Math.max(0, ...every.map((row) => keys.reduce((found, key) => Math.max(found, row[key]), 0)));
  const onImage = page.places.map((place) => place.at);
  const chosen = `${state.layer === null ? "mean of layers" : `layer ${reply.layers[state.layer]}`}, ${state.head === null ? "mean of heads" : `head ${state.head}`}`;
  const shown = make("div", { class: `card panel ${kind}` }, make("h3", {}, title), make("p", { class: "soft" }, chosen));
  const maps = make("div", { class: "maps" });
  page.images.forEach((image, index) => maps.append(imageFigure(image, index, reply, { values, most: most(onImage), kind, unit, said: `${title}, ${chosen}` })));
  maps.append(gridFigure(reply, rows, kind, unit));
  const sinks = reply.sinks.map((sink) => sink.position);
  const text = range(reply.first + state.token).filter((at) => reply.segments[at] !== "IMAGE" && !sinks.includes(at));
  shown.append(maps, ...textMap(reply, values, { most: most(text), kind, unit, sinks }));
  return shown;
}

function imageFigure(image, index, reply, { values, most, kind, unit, said }) {
  const places = page.places.filter((place) => place.image === index);
  const mine = places.map((place) => values[place.at]);
  const canvas = make("canvas", { role: "img", class: "map" });
  const all = page.places;
  const outlined = state.anchors && reply.drift
    ? reply.drift.anchors[state.token].map((at) => places.indexOf(all[at])).filter((at) => at >= 0) : [];
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

// The sum over the image (over all prompt tokens without an image) by layer and head; a click chooses both.
function gridFigure(reply, rows, kind, unit) {
  const at = page.places.length ? page.places.map((place) => place.at) : range(reply.first);
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
  const caption = make("figcaption", {}, `Sum over the ${page.places.length ? "image" : "prompt"}, by head (→) and layer (↑). Click to choose.`);
  return make("figure", { class: "grid" }, make("p", { class: "scale" }, legend(stopsOf(kind), most, unit.replace(" (0 to 1)", ""))), canvas, caption);
}

function textMap(reply, values, { most, kind, unit, sinks }) {
  const text = make("div", { class: "text" });
  const last = reply.first + state.token;
  let before = reply.segments[0];
  for (let at = 0; at < last; at++) {
    const segment = reply.segments[at];
    if (segment === "PAD") continue;
    const begins = segment !== before || at === 0;
    before = segment;
    if (segment === "IMAGE") {
      const run = range(last - at).findIndex((step) => reply.segments[at + step] !== "IMAGE");
      const count = run < 0 ? last - at : run;
      const share = sum(range(count).map((step) => values[at + step]));
      text.append(make("span", { class: "word image", title: `${count} image tokens: ${number(share)} in sum` }, `▦ ${count} image tokens: ${number(share)}`));
      at += count - 1;
      continue;
    }
    if (begins && at) text.append(make("span", { class: "segment", "aria-hidden": "true" }));
    const rests = sinks.includes(at);
    const word = make("span", { class: rests ? "word sink" : "word", title: `${segment} ${at}: ${number(values[at])}` }, reply.words[at], ...(rests ? [` ${number(values[at])}`] : []));
    paint(word, most ? values[at] / most : 0, stopsOf(kind));
    text.append(word);
  }
  const scale = make("p", { class: "scale" }, legend(stopsOf(kind), most, unit), ...(sinks.length ? [make("span", { class: "word sink" }, "sink"), "not on the scale"] : []));
  return [make("h3", {}, "On the preceding text"), scale, text];
}

// -------------------------------------------------------------------------------------------- budget, sinks, anchors, drift

function shareRows(reply, layer, head) {
  return reply.attention.indices(state.token, layer, head);
}

function showBudget(reply) {
  const line = (layer) => reply.shares.mean(shareRows(reply, layer, state.head));
  const now = line(state.layer);
  const rows = [{ name: "all layers", values: line(null), now: state.layer === null }];
  reply.layers.forEach((layer, index) => rows.unshift({ name: `layer ${layer}`, values: line(index), now: state.layer === index }));
  $("budget").replaceChildren(swatches(page.parts, page.colours.parts, now), stack(rows, page.colours.parts, page.parts));
}

function showSinks(reply) {
  const values = reply.attention.at(state.token, state.layer, state.head);
  if (!reply.sinks.length) {
    $("sinks").replaceChildren(make("p", {}, "No token of this conversation is a sink by the default thresholds."));
    return;
  }
  const rows = reply.sinks.map((sink) => [`${sink.token} at ${sink.position}`, number(values[sink.position]), sink.layers.join(", ") || "none", number(sink.received)]);
  const known = table(["token", "from this row", "a sink in layers", "from all rows (maximum)"], rows);
  $("sinks").replaceChildren(known, make("p", { class: "soft" }, "Attention, 0 to 1. “From this row”: at the layer and head chosen above; “from all rows”: mean over heads and over the tokens that can see it, maximum over layers."));
}

function showDrift(reply) {
  const { drift, layers } = reply;
  if (!drift) {
    $("drift").replaceChildren(make("p", {}, "Visual anchors need an image; this prompt has none."));
    return;
  }
  const pick = (lines) => lines.map((line) => line[state.token]);
  const [positive, negative, entropy] = [drift.positive, drift.negative, drift.entropy].map(pick);
  const { blue, orange } = page.colours;
  const lines = [{ values: positive, colour: blue }, { values: negative, colour: orange, dashed: true }];
  const ends = `from ${number(positive[0])} in layer ${layers[0]} to ${number(positive[positive.length - 1])} in layer ${layers[layers.length - 1]}`;
  const most = Math.ceil(Math.log(Math.max(page.places.length, 2)) * 10) / 10;
  $("drift").replaceChildren(
    swatches([`with the positive visual anchor (layer ${drift.middle})`, `with the negative visual anchor (layer ${drift.first}, dashed)`], [blue, orange]),
    lineChart({ lines, layers, low: -1, high: 1, unit: "correlation r (−1 to 1)", now: state.layer, said: `Correlation with the positive visual anchor ${ends}` }),
    make("p", { class: "soft" }, `Spread of the attention on the image: entropy in nats, at most ln ${page.places.length} = ${number(Math.log(page.places.length))}`),
    lineChart({ lines: [{ values: entropy, colour: "#4b5560" }], layers, low: 0, high: most, unit: "entropy (nats)", now: state.layer, said: `Entropy of the map by layer, ${entropy.map(number).join(", ")}` }),
  );
}

// ------------------------------------------------------------------------------------- the same reply under every variant

function showAgain(reply) {
  if (page.replies.length < 2) return;
  const token = state.token;
  if (state.reply !== 0) {
    $("again").replaceChildren(make("p", { class: "soft" }, `Choose a token of the reply “${page.replies[0].name}” to compare it under every variant.`));
    return;
  }
  const word = reply.words[reply.first + token];
  const most = Math.max(0, ...page.forced.flatMap((one) => [...one.maps.mean([token])]));
  const cards = page.forced.map((one, index) => {
    const about = page.replies[index];
    const p = one.logprobs[token] === null ? 0 : Math.exp(one.logprobs[token]);
    const shares = one.shares.mean([token]);
    const card = make("div", { class: "card" }, make("h3", {}, about.name), make("p", {}, `p = ${number(p)}`));
    const values = one.maps.mean([token]);
    page.images.forEach((image, at) => {
      const canvas = make("canvas", { role: "img", class: "map", "aria-label": `attention on the image, ${about.name}, sum ${number(sum([...values]))}` });
      const chosen = page.places.map((place, key) => [place, values[key]]).filter(([place]) => place.image === at);
      drawMap(canvas, image, chosen.map(([place]) => place), chosen.map(([, value]) => value), most, stopsOf("attention"));
      card.append(canvas);
    });
    card.append(stack([{ name: "", values: shares, now: false }], page.colours.parts, page.parts));
    card.append(make("p", { class: "soft" }, page.parts.map((part, at) => `${part} ${shares[at].toFixed(2)}`).join(" · ")));
    return card;
  });
  $("again").replaceChildren(
    make("h2", {}, `“${word}” under every variant, in the same reply`),
    make("p", { class: "soft" }, "The baseline's reply, teacher-forced through every variant: the probability of this token, and the attention of the row that predicts it (mean over layers and heads, one scale)."),
    ...(page.images.length ? [legend(stopsOf("attention"), most, "of the row (0 to 1)")] : []),
    make("div", { class: "again" }, ...cards),
  );
}

