// The replies: one button per token, coloured by a score and marked by its label.

function showReplies() {
  const [, kind, unit, means] = SCORES[state.by];
  const most = Math.max(...page.replies.flatMap((reply) => reply.scores[state.by].map((value) => value || 0)));
  $("by-legend").replaceChildren(legend(stopsOf(kind), most, unit));
  $("by-means").textContent = means;
  showKinds();
  const focused = document.activeElement && document.activeElement.classList.contains("token");
  $("replies").replaceChildren(...page.replies.map((reply, index) => card(reply, index, most, stopsOf(kind))));
  markChosen(focused);
}

function showKinds() {
  const seen = new Set(page.replies.flatMap((reply) => reply.labels));
  if (seen.has("unknown")) {
    $("kinds").replaceChildren("Hallucination labels are unknown; they are known for drawn scenes only.");
    return;
  }
  const said = ["there", "invented"].map((label) => make("span", { class: label }, mark(label), ` ${page.labels[label]}`));
  $("kinds").replaceChildren(...said, "no mark: names no object");
}

const mark = (label) => make("span", { class: "mark", "aria-hidden": "true" }, MARKS[label]);

function card(reply, index, most, stops) {
  const head = make("h3", { id: `reply-${index}` }, reply.name);
  const tokens = make("div", { class: "tokens", role: "group", "aria-labelledby": `reply-${index}` });
  reply.labels.forEach((label, token) => tokens.append(tokenButton(reply, index, token, label, most, stops)));
  const counts = ["there", "invented"].map((label) => reply.labels.filter((one) => one === label).length);
  const labelled = reply.labels.includes("unknown") ? "" : ` · ${counts[0]} ✓ · ${counts[1]} ✗`;
  const about = make("p", { class: "soft" }, `${reply.labels.length} token${reply.labels.length === 1 ? "" : "s"}${labelled}`);
  const interventions = reply.interventions.map((one) => make("p", { class: "soft" }, make("code", {}, one)));
  const notes = reply.notes.map((note) => make("p", { class: "note" }, note));
  return make("div", { class: "card reply" }, head, ...interventions, ...notes, tokens, about);
}

function tokenButton(reply, index, token, label, most, stops) {
  const word = reply.words[reply.first + token];
  const value = reply.scores[state.by][token];
  const said = `${word}, ${label === "none" ? "no object" : label}, ${SCORES[state.by][0]} ${number(value)}`;
  const button = make("button", { type: "button", class: `token ${label}`, "aria-label": said, title: `${SCORES[state.by][0]}: ${number(value)}`, "data-reply": index, "data-token": token }, word);
  if (label in MARKS) button.append(mark(label));
  paint(button, most ? value / most : 0, stops);
  button.addEventListener("click", () => pick(index, token, false));
  button.addEventListener("keydown", moved);
  return button;
}

// Arrow keys move along the reply and on to the next one; the selection follows the focus.
function moved(event) {
  const buttons = [...document.querySelectorAll(".token")];
  const here = buttons.indexOf(event.currentTarget);
  const mine = buttons.filter((button) => button.dataset.reply === event.currentTarget.dataset.reply);
  const next = { ArrowRight: buttons[here + 1], ArrowLeft: buttons[here - 1], Home: mine[0], End: mine[mine.length - 1] }[event.key];
  if (!next) return;
  event.preventDefault();
  pick(Number(next.dataset.reply), Number(next.dataset.token), true);
}

function pick(reply, token, focus) {
  Object.assign(state, { reply, token });
  markChosen(focus);
  showToken();
}

// Only the chosen token is in the tab order.
function markChosen(focus) {
  for (const button of document.querySelectorAll(".token")) {
    const chosen = Number(button.dataset.reply) === state.reply && Number(button.dataset.token) === state.token;
    button.tabIndex = chosen ? 0 : -1;
    button.setAttribute("aria-pressed", String(chosen));
    if (chosen && focus) button.focus();
  }
  document.querySelectorAll(".reply").forEach((card, index) => card.classList.toggle("chosen", index === state.reply));
}

