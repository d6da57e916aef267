// The replies: a button a token, coloured by a score and marked by its label.

function showReplies() {
  const [, kind, unit, means] = SCORES[state.by];
  const most = Math.max(...page.readings.flatMap((reading) => reading.scores[state.by].map((value) => value || 0)));
  $("by-legend").replaceChildren(legend(stopsOf(kind), most, unit));
  $("by-means").textContent = means;
  showKinds();
  const focused = document.activeElement && document.activeElement.classList.contains("token");
  $("replies").replaceChildren(...page.readings.map((reading, index) => card(reading, index, most, stopsOf(kind))));
  markChosen(focused);
}

function showKinds() {
  const seen = new Set(page.readings.flatMap((reading) => reading.labels));
  if (seen.has("unknown")) {
    $("kinds").replaceChildren("Hallucination labels: unknown. They are known for drawn scenes only.");
    return;
  }
  const said = ["there", "invented"].map((label) => make("span", { class: label }, mark(label), ` ${page.labels[label]}`));
  $("kinds").replaceChildren(...said, "no mark: names no object");
}

const mark = (label) => make("span", { class: "mark", "aria-hidden": "true" }, MARKS[label]);

function card(reading, index, most, stops) {
  const head = make("h3", { id: `reading-${index}` }, reading.name);
  const tokens = make("div", { class: "tokens", role: "group", "aria-labelledby": `reading-${index}` });
  reading.labels.forEach((label, token) => tokens.append(tokenButton(reading, index, token, label, most, stops)));
  const counts = ["there", "invented"].map((label) => reading.labels.filter((one) => one === label).length);
  const labelled = reading.labels.includes("unknown") ? "" : ` · ${counts[0]} ✓ · ${counts[1]} ✗`;
  const about = make("p", { class: "soft" }, `${reading.labels.length} token${reading.labels.length === 1 ? "" : "s"}${labelled}`);
  const changes = reading.changes.map((change) => make("p", { class: "soft" }, make("code", {}, change)));
  const notes = reading.notes.map((note) => make("p", { class: "note" }, note));
  return make("div", { class: "card reading" }, head, ...changes, ...notes, tokens, about);
}

function tokenButton(reading, index, token, label, most, stops) {
  const word = reading.words[reading.first + token];
  const value = reading.scores[state.by][token];
  const said = `${word}, ${label === "none" ? "no object" : label}, ${SCORES[state.by][0]} ${number(value)}`;
  const button = make("button", { type: "button", class: `token ${label}`, "aria-label": said, title: `${SCORES[state.by][0]}: ${number(value)}`, "data-reading": index, "data-token": token }, word);
  if (label in MARKS) button.append(mark(label));
  paint(button, most ? value / most : 0, stops);
  button.addEventListener("click", () => pick(index, token, false));
  button.addEventListener("keydown", moved);
  return button;
}

// Arrows go along the reply and on into the next one; what is chosen follows the focus.
function moved(event) {
  const buttons = [...document.querySelectorAll(".token")];
  const here = buttons.indexOf(event.currentTarget);
  const mine = buttons.filter((button) => button.dataset.reading === event.currentTarget.dataset.reading);
  const next = { ArrowRight: buttons[here + 1], ArrowLeft: buttons[here - 1], Home: mine[0], End: mine[mine.length - 1] }[event.key];
  if (!next) return;
  event.preventDefault();
  pick(Number(next.dataset.reading), Number(next.dataset.token), true);
}

function pick(reading, token, focus) {
  Object.assign(state, { reading, token });
  markChosen(focus);
  showToken();
}

// One token of all is in the tab order: the chosen one.
function markChosen(focus) {
  for (const button of document.querySelectorAll(".token")) {
    const chosen = Number(button.dataset.reading) === state.reading && Number(button.dataset.token) === state.token;
    button.tabIndex = chosen ? 0 : -1;
    button.setAttribute("aria-pressed", String(chosen));
    if (chosen && focus) button.focus();
  }
  document.querySelectorAll(".reading").forEach((card, index) => card.classList.toggle("chosen", index === state.reading));
}

